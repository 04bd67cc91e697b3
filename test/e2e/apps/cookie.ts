/** A browser app: a cookie names a basket, which is in memory. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { respondJson, HERE, urlOf, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';

export function createCookieDoor(): Door {
  const baskets = new Map<string, number>();

  function login(response: ServerResponse): void {
    const id = randomUUID();
    baskets.set(id, 0);
    noteOpened(id);
    response.setHeader('set-cookie', [`sid=${id}; Path=/; HttpOnly`, 'theme=dark; Path=/']);
    respondJson(response, 200, { ...HERE, count: 0 });
  }

  function logout(response: ServerResponse, id: string): void {
    baskets.delete(id);
    noteEnded(id);
    response.setHeader('set-cookie', 'sid=; Path=/; Max-Age=0');
    respondJson(response, 200, HERE);
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = urlOf(request);
    if (pathname === '/login') {
      login(response);
      return;
    }
    const id = /(?:^|; )sid=([^;]*)/.exec(request.headers.cookie ?? '')?.[1];
    const count = id === undefined ? undefined : baskets.get(id);
    if (id !== undefined) noteRequest(request, id, count !== undefined);
    if (id === undefined || count === undefined) {
      respondJson(response, 401, { ...HERE, error: 'not logged in' });
    } else if (pathname === '/logout') {
      logout(response, id);
    } else {
      baskets.set(id, count + 1);
      respondJson(response, 200, { ...HERE, count: count + 1, cookie: request.headers.cookie });
    }
  }

  return { paths: ['/login', '/basket', '/logout'], handle };
}
