/**
 * A small server with the session of a servlet container: the id is in a cookie, and in the paths of
 * its own links until the client has shown that it keeps cookies.
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { respondJson, HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { nameHere } from './here-headers.ts';
import { findCookie } from './session-cookie.ts';

const PATH = '/java/';
const COOKIE = 'JSESSIONID';
const PARAMETER = ';jsessionid=';
const ID_BYTES = 16;

export function createJavaDoor(): Door {
  const baskets = new Map<string, number>();

  function login(response: ServerResponse): void {
    const id = randomBytes(ID_BYTES).toString('hex').toUpperCase();
    baskets.set(id, 0);
    noteOpened(id);
    nameHere(response);
    response.setHeader('set-cookie', `${COOKIE}=${id}; Path=${PATH}; HttpOnly`);
    response.writeHead(302, { location: `${PATH}basket${PARAMETER}${id}` }).end();
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    const [path, inPath] = urlOf(request).pathname.split(PARAMETER, 2);
    if (path === `${PATH}login`) {
      login(response);
      return;
    }
    const id = findCookie(request, COOKIE) ?? inPath ?? '';
    const count = baskets.get(id);
    noteRequest(request, id, count !== undefined);
    if (count === undefined) {
      respondJson(response, 401, { ...HERE, error: 'no such session' });
    } else if (path === `${PATH}logout`) {
      baskets.delete(id);
      noteEnded(id);
      respondJson(response, 200, { ...HERE, count });
    } else {
      baskets.set(id, count + 1);
      respondJson(response, 200, { ...HERE, count: count + 1 });
    }
  }

  return { paths: [PATH], handle };
}
