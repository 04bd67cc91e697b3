/**
 * A WebSocket RPC server and its HTTP endpoints: `POST /rpc` opens a session and returns its id in
 * `x-session-id`; `/rpc?session_id=ID` is its socket, on which each message is a call; `/rpc/call`
 * and `/rpc/upload` accept calls and files of the session over HTTP.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { WebSocketServer } from 'ws';
import { respondJson, HERE, urlOf, type Door } from './door.ts';
import { noteOpened, noteRequest } from './journal.ts';

interface Session {
  count: number;
}

export function createRpcDoor(): Door {
  const sessions = new Map<string, Session>();
  const sockets = new WebSocketServer({ noServer: true });

  function open(response: ServerResponse): void {
    const id = randomUUID();
    sessions.set(id, { count: 0 });
    noteOpened(id);
    response.setHeader('x-session-id', id);
    respondJson(response, 200, { ...HERE, session: id, count: 0 });
  }

  function sessionOf(request: IncomingMessage): Session | undefined {
    const { searchParams } = urlOf(request);
    const id = searchParams.get('session_id') ?? request.headers['x-session-id']?.toString() ?? '';
    noteRequest(request, id, sessions.has(id));
    return sessions.get(id);
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = urlOf(request);
    if (pathname === '/rpc') {
      open(response);
      return;
    }
    const session = sessionOf(request);
    const received = await digestOf(request);
    const waitMs = Number(searchParams.get('wait_ms'));
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (!session) respondJson(response, 404, { ...HERE, error: 'no such session' });
    else respondJson(response, 200, { ...HERE, ...received, count: (session.count += 1) });
  }

  return {
    paths: ['/rpc', '/rpc/call', '/rpc/upload'],
    handle,
    upgrade: (request, socket, head) => {
      const session = sessionOf(request);
      if (!session) {
        socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\nno such session');
        return;
      }
      sockets.handleUpgrade(request, socket, head, (client) => {
        client.on('message', () =>
          client.send(JSON.stringify({ ...HERE, count: (session.count += 1) })),
        );
      });
    },
  };
}

async function digestOf(request: IncomingMessage): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  return { bytes, sha256: hash.digest('hex') };
}
