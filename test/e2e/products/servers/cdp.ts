/**
 * A small server of the Chrome DevTools Protocol: `/json/...` reveals the URLs of the browser and of
 * its pages, each for a WebSocket (https://chromedevtools.github.io/devtools-protocol/). Every
 * command is counted, in its browser or page.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { WebSocketServer, type WebSocket } from 'ws';
import { respondJson, HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteOpened, noteRequest } from '../../apps/journal.ts';

const DEVTOOLS = '/devtools/';
const PAGE_ID_BYTES = 16;

export function createCdpDoor(): Door {
  /** How many commands each has got; by `browser/ID` or `page/ID`. */
  const counts = new Map<string, number>();
  const sockets = new WebSocketServer({ noServer: true });
  const browser = openTarget('browser', randomUUID());
  openPage();

  function openTarget(type: 'browser' | 'page', id: string): string {
    counts.set(`${type}/${id}`, 0);
    noteOpened(id);
    return `${type}/${id}`;
  }

  function openPage(): string {
    return openTarget('page', randomBytes(PAGE_ID_BYTES).toString('hex').toUpperCase());
  }

  function describe(target: string, host: string): object {
    const [type, id] = target.split('/');
    return {
      ...{ id, type, title: HERE.machine, description: '', url: 'about:blank' },
      ...{ devtoolsFrontendUrl: `/devtools/inspector.html?ws=${host}${DEVTOOLS}${target}` },
      webSocketDebuggerUrl: `ws://${host}${DEVTOOLS}${target}`,
      here: { ...HERE, count: counts.get(target) },
    };
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    const host = request.headers.host ?? '';
    const { pathname } = urlOf(request);
    if (pathname === '/json/version') {
      respondJson(response, 200, {
        Browser: 'Chrome/140.0.0.0',
        'Protocol-Version': '1.3',
        ...describe(browser, host),
      });
    } else if (pathname === '/json/new' && request.method === 'PUT') {
      respondJson(response, 200, describe(openPage(), host));
    } else if (pathname === '/json/list') {
      const pages = [...counts.keys()].filter((target) => target.startsWith('page/'));
      respondJson(
        response,
        200,
        pages.map((page) => describe(page, host)),
      );
    } else {
      respondJson(response, 404, { ...HERE, error: 'no such path' });
    }
  }

  function serve(socket: WebSocket, target: string): void {
    socket.on('message', (message: Buffer) => {
      const { id } = JSON.parse(message.toString()) as { id: number };
      const count = (counts.get(target) ?? 0) + 1;
      counts.set(target, count);
      socket.send(JSON.stringify({ id, result: { ...HERE, count } }));
    });
  }

  return {
    paths: ['/json/', DEVTOOLS],
    handle,
    upgrade: (request, socket, head) => {
      const target = urlOf(request).pathname.slice(DEVTOOLS.length);
      noteRequest(request, target.split('/')[1] ?? '', counts.has(target));
      if (counts.has(target)) {
        sockets.handleUpgrade(request, socket, head, (client) => serve(client, target));
      } else {
        socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
      }
    },
  };
}
