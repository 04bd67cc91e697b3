/**
 * An app with a primary that runs all writes, as with LiteFS and fly-ruby: a replica responds to a
 * write with a replay to the primary. Sessions are in the memory of the Machine that created their
 * id. https://fly.io/docs/litefs/proxy/, https://github.com/superfly/fly-ruby
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { WebSocketServer } from 'ws';
import { noteRun } from './run-journal.ts';

export const STATE = 'captured_write';
/** The header that contains the session id. */
const ID_HEADERS = ['mcp-session-id', 'x-session-id'] as const;

const SELF = process.env.FLY_MACHINE_ID ?? '';
/** The id of the Machine that runs the writes, set by the test. */
let primary = '';

const sessions = new Set<string>();
const sockets = new WebSocketServer({ noServer: true });

/** How a replica names the Machine that is to run a write. */
const REPLAYS: ReadonlyMap<string, () => string> = new Map([
  ['instance', () => `instance=${primary};state=${STATE}`],
  ['region', () => `region=${process.env.PRIMARY_REGION ?? ''};state=${STATE}`],
  ['elsewhere', () => `elsewhere=true;state=${STATE}`],
]);

const server = createServer((request, response) => {
  const { pathname, searchParams } = urlOf(request);
  if (pathname === '/primary') {
    primary = searchParams.get('is') ?? '';
    response.end();
  } else if (pathname === '/open') {
    open(request, response);
  } else if (pathname === '/write') {
    write(request, response);
  } else {
    noteRun(request, 'read');
    answer(request, response);
  }
});

server.on('upgrade', (request, socket, head: Buffer) => {
  const replay = replayFor(request);
  if (replay !== undefined) {
    noteRun(request, 'replayed');
    socket.end(`HTTP/1.1 409 Conflict\r\nfly-replay: ${replay}\r\ncontent-length: 0\r\n\r\n`);
    return;
  }
  noteRun(request, 'wrote');
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.send(JSON.stringify(accountOf(request)));
  });
});

server.listen(Number(process.env.PORT), '127.0.0.1');

function urlOf(request: IncomingMessage): URL {
  return new URL(request.url ?? '/', 'http://app');
}

function open(request: IncomingMessage, response: ServerResponse): void {
  noteRun(request, 'opened');
  reveal(response, urlOf(request).searchParams.get('id-in') ?? '');
  answer(request, response);
}

/** A new session of this Machine. */
function reveal(response: ServerResponse, header: string): void {
  const id = randomUUID();
  sessions.add(id);
  if (header !== '') response.setHeader(header, id);
}

function write(request: IncomingMessage, response: ServerResponse): void {
  const replay = replayFor(request);
  if (replay !== undefined) {
    noteRun(request, 'replayed');
    response.writeHead(409, { 'fly-replay': replay }).end();
    return;
  }
  noteRun(request, 'wrote');
  const opens = urlOf(request).searchParams.get('opens') ?? '';
  if (opens !== '') reveal(response, opens);
  else echo(request, response);
  answer(request, response);
}

/** As apps do also for an unknown id. */
function echo(request: IncomingMessage, response: ServerResponse): void {
  const id = request.headers['x-session-id'];
  if (id !== undefined) response.setHeader('x-session-id', id);
}

/** Undefined: this Machine runs the write, or a replica has replayed it here. */
function replayFor(request: IncomingMessage): string | undefined {
  const mode = urlOf(request).searchParams.get('mode') ?? '';
  if (SELF === primary) return undefined;
  if (mode === 'elsewhere' && sourceOf(request).includes(`state=${STATE}`)) return undefined;
  return REPLAYS.get(mode)?.();
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(accountOf(request)));
}

function accountOf(request: IncomingMessage): object {
  const id = idOf(request);
  return {
    machine: SELF,
    id,
    isKnown: id !== undefined && sessions.has(id),
    source: sourceOf(request),
    requestId: request.headers['fly-request-id'],
  };
}

function idOf({ headers }: IncomingMessage): string | undefined {
  return ID_HEADERS.map((name) => headers[name]?.toString()).find((id) => id !== undefined);
}

function sourceOf({ headers }: IncomingMessage): string {
  return headers['fly-replay-src']?.toString() ?? '';
}
