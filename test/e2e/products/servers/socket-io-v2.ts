/**
 * Socket.IO 2, with its own server. On further paths it responds to JSONP in other forms: each server
 * of Engine.IO 3 chooses the quotes and the media type itself.
 */
import type { Server, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { createServerDoor } from '../../apps/server-door.ts';

/** The package has no types. */
const SocketIoServer = createRequire(import.meta.url)('socket.io-v2') as new (
  server: Server,
  options: object,
) => SocketIoServer;

const PATH = '/socket.io-v2/';
/** Long enough for a busy computer. */
const PING_TIMEOUT_MS = 60_000;

interface JsonpForm {
  readonly quote: '"' | "'";
  readonly contentType: string;
}

/** By the path in front of Socket.IO's own; the last one is that of netty-socketio. */
const JSONP_FORMS: Readonly<Record<string, JsonpForm>> = {
  '/jsonp-1': { quote: '"', contentType: 'text/javascript; charset=UTF-8' },
  '/jsonp-2': { quote: '"', contentType: 'application/javascript' },
  '/jsonp-3': { quote: "'", contentType: 'text/javascript; charset=UTF-8' },
  '/jsonp-4': { quote: "'", contentType: 'application/javascript' },
};

export function createSocketIoV2Door(): Door {
  const sessions = new Set<string>();
  const own = createServerDoor({
    path: PATH,
    attach: (server) => serve(server, sessions),
    note: (request) => {
      const id = urlOf(request).searchParams.get('sid');
      if (id !== null) noteRequest(request, id, sessions.has(id));
    },
  });
  return {
    ...own,
    paths: [PATH, ...Object.keys(JSONP_FORMS).map((prefix) => prefix + PATH)],
    handle: (request, response) => {
      const [prefix, form] = findForm(request.url ?? '');
      request.url = request.url?.slice(prefix.length) ?? '';
      if (form) useForm(response, form);
      return own.handle(request, response);
    },
  };
}

function findForm(url: string): [prefix: string, form: JsonpForm | undefined] {
  const prefix = Object.keys(JSONP_FORMS).find((known) => url.startsWith(known + PATH)) ?? '';
  return [prefix, JSONP_FORMS[prefix]];
}

function serve(server: Server, sessions: Set<string>): void {
  const io = new SocketIoServer(server, {
    path: PATH,
    serveClient: false,
    pingTimeout: PING_TIMEOUT_MS,
  });
  io.on('connection', (socket) => {
    let count = 0;
    socket.on('count', (respond) => {
      count += 1;
      respond({ ...HERE, count });
    });
  });
  // Requests name the engine's session; that of Socket.IO is internal.
  io.engine.on('connection', (connection) => {
    const { id } = connection;
    sessions.add(id);
    noteOpened(id);
    connection.once('close', () => {
      sessions.delete(id);
      noteEnded(id);
    });
  });
}

/** A call of the client's function, with its argument written anew. */
const CALL = /^(___eio\[\d+\]\()(".*")(\);)$/s;

function useForm(response: ServerResponse, { quote, contentType }: JsonpForm): void {
  const writeHead = response.writeHead.bind(response);
  const end = response.end.bind(response) as (body: string) => ServerResponse;
  let headers: Record<string, string> = {};
  let status = 200;
  response.writeHead = ((responseStatus: number, responseHeaders: Record<string, string>) => {
    status = responseStatus;
    headers = { ...responseHeaders };
    return response;
  }) as typeof response.writeHead;
  response.end = ((body: string | undefined = '') => {
    const [, head, argument, foot] = CALL.exec(body) ?? [];
    if (head === undefined || argument === undefined || foot === undefined) {
      writeHead(status, headers);
      return end(body);
    }
    const call = head + quoted(JSON.parse(argument) as string, quote) + foot;
    const length = String(Buffer.byteLength(call));
    writeHead(status, { ...headers, 'Content-Type': contentType, 'Content-Length': length });
    return end(call);
  }) as typeof response.end;
}

/** As netty-socketio does it: double quotes need no escape in single ones. */
function quoted(argument: string, quote: '"' | "'"): string {
  if (quote === '"') return JSON.stringify(argument);
  return `'${argument.replace(/[\\']/g, '\\$&')}'`;
}

/** The parts of Socket.IO 2 that are used here. */
interface SocketIoServer {
  on(event: 'connection', listener: (socket: CountingSocket) => void): void;
  readonly engine: { on(event: 'connection', listener: (socket: EngineSocket) => void): void };
}

interface CountingSocket {
  on(event: 'count', listener: (respond: (counted: object) => void) => void): void;
}

interface EngineSocket {
  readonly id: string;
  once(event: 'close', listener: () => void): void;
}
