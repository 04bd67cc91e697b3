/**
 * The default app of `simulate`: JSON-RPC over plain HTTP, with sessions in the memory of its process,
 * like any stateful server. It knows nothing of sidecars.
 *
 * `POST /mcp` with method `initialize` returns a `mcp-session-id`, `POST /rpc` an `x-session-id`;
 * `count` then counts in that session, and `DELETE` ends it. `GET` with a session's header streams its
 * events.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

interface Session {
  count: number;
  readonly streams: Set<ServerResponse>;
}

interface Call {
  readonly id: unknown;
  readonly method: unknown;
}

/** Which header carries the session, by path. */
const SESSION_HEADERS: Readonly<Record<string, string>> = {
  '/mcp': 'mcp-session-id',
  '/rpc': 'x-session-id',
};

const MAX_BODY_BYTES = 1024 * 1024;

const HELP = `Two doors, each with sessions of its own kind: /mcp (mcp-session-id), /rpc (x-session-id).
  curl -i -d '{"jsonrpc":"2.0","id":1,"method":"initialize"}' URL/mcp
  curl -i -d '{"jsonrpc":"2.0","id":2,"method":"count"}' -H 'mcp-session-id: ID' URL/mcp
`;

export function createDemoApp(machine: string): Server {
  const sessions = new Map<string, Session>();
  return createServer((request, response) => {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    const header = SESSION_HEADERS[path];
    if (header === undefined) {
      response.end(`This is Machine ${machine}.\n${HELP}`);
      return;
    }
    handle({ machine, header, sessions, request, response }).catch(() => {
      if (!response.headersSent) response.writeHead(400);
      response.end();
    });
  });
}

interface Exchange {
  readonly machine: string;
  readonly header: string;
  readonly sessions: Map<string, Session>;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

async function handle(exchange: Exchange): Promise<void> {
  const { header, sessions, request, response } = exchange;
  const call = request.method === 'POST' ? await readCall(request) : undefined;
  if (call?.method === 'initialize') {
    open(exchange, call);
    return;
  }
  const id = request.headers[header]?.toString() ?? '';
  const session = sessions.get(id);
  if (!session) {
    const status = id === '' ? 400 : 404;
    const error = { code: -32001, message: id === '' ? 'No session' : 'Session not found' };
    respond(exchange, status, { id: call?.id ?? null, error });
    return;
  }
  if (request.method === 'DELETE') {
    sessions.delete(id);
    for (const stream of session.streams) stream.end();
    response.writeHead(204).end();
    return;
  }
  if (call) count(exchange, call, session);
  else stream(exchange, session);
}

function open(exchange: Exchange, call: Call): void {
  const id = randomUUID();
  exchange.sessions.set(id, { count: 0, streams: new Set() });
  exchange.response.setHeader(exchange.header, id);
  respond(exchange, 200, { id: call.id, result: { machine: exchange.machine } });
}

function count(exchange: Exchange, call: Call, session: Session): void {
  session.count += 1;
  const result = { machine: exchange.machine, count: session.count };
  for (const stream of session.streams) stream.write(`data: ${JSON.stringify(result)}\n\n`);
  respond(exchange, 200, { id: call.id, result });
}

function stream({ response }: Exchange, session: Session): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.flushHeaders();
  session.streams.add(response);
  response.once('close', () => session.streams.delete(response));
}

function respond({ response }: Exchange, status: number, message: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
}

/** Rejects if the body is not a JSON object, or too long. */
async function readCall(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new RangeError('the body is too long');
    chunks.push(chunk);
  }
  const json: unknown = JSON.parse(Buffer.concat(chunks).toString());
  if (typeof json !== 'object' || json === null) throw new TypeError('a JSON object is expected');
  return { id: null, method: undefined, ...json };
}
