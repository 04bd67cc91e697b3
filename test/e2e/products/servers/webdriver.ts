/**
 * A small server of WebDriver (https://www.w3.org/TR/webdriver2/), at the root and under `/wd/hub`,
 * as Selenium's own server has it. Its page has a title and one heading; both count.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { respondJson, HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';

/** The id, and the command behind it. */
const SESSION = /^(?:\/wd\/hub)?\/session(?:\/([^/]+)(\/.*)?)?$/;
/** The name of an element's reference (§12.4.1). */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const HEADING = 'f.1.d.1.e.1';

interface BrowserSession {
  url: string;
  count: number;
}

export function createWebDriverDoor(): Door {
  const sessions = new Map<string, BrowserSession>();

  function open(response: ServerResponse): void {
    const sessionId = randomUUID().replaceAll('-', '');
    sessions.set(sessionId, { url: 'about:blank', count: 0 });
    noteOpened(sessionId);
    const capabilities = {
      browserName: 'chrome',
      browserVersion: '140.0',
      platformName: 'linux',
      acceptInsecureCerts: false,
      pageLoadStrategy: 'normal',
      setWindowRect: true,
      proxy: {},
      timeouts: { implicit: 0, pageLoad: 300_000, script: 30_000 },
      'test:here': { ...HERE, count: 0 },
    };
    respondJson(response, 200, { value: { sessionId, capabilities } });
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, id, command = ''] = SESSION.exec(urlOf(request).pathname) ?? [];
    const body = request.method === 'POST' ? await json(request) : {};
    if (id === undefined) {
      if (request.method === 'POST') open(response);
      else respondError(response, 'unknown command');
      return;
    }
    const session = sessions.get(id);
    noteRequest(request, id, session !== undefined);
    if (!session) {
      respondError(response, 'invalid session id');
      return;
    }
    if (request.method === 'DELETE') {
      sessions.delete(id);
      noteEnded(id);
    }
    const value = resultOf(`${request.method ?? ''} ${command}`, session, body);
    if (value === undefined) respondError(response, 'unknown command');
    else respondJson(response, 200, { value });
  }

  return { paths: ['/session', '/session/', '/wd/hub/'], handle };
}

/** Undefined for a command that is not supported here. */
function resultOf(command: string, session: BrowserSession, body: unknown): unknown {
  switch (command) {
    case 'DELETE ':
      return null;
    case 'POST /url':
      session.url = (body as { url: string }).url;
      return null;
    case 'GET /url':
      return session.url;
    case 'POST /element':
      return { [ELEMENT]: HEADING };
    case 'GET /title':
    case `GET /element/${HEADING}/text`:
      session.count += 1;
      return JSON.stringify({ ...HERE, count: session.count });
    default:
      return undefined;
  }
}

function respondError(response: ServerResponse, error: string): void {
  respondJson(response, 404, { value: { error, message: HERE.machine, stacktrace: '' } });
}
