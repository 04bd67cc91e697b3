/**
 * The app behind each sidecar, as its own process that may be killed at any moment. It has sessions
 * in its memory, and names in each response the app and the request. Environment: SOAK_APP,
 * SOAK_KEEP_ALIVE_MS, PORT.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { WebSocketServer } from 'ws';
import { payload } from '../payload.ts';
import { REQUESTED_CLOSE_CODE, CLOSE_PLEASE, type AppMessage } from './messages.ts';

const NAME = process.env.SOAK_APP ?? '';
const PIECE_BYTES = 32_768;
/** A payload of this length is endless for any client. */
const ENDLESS_BYTES = 2 ** 40;

type Handler = (req: IncomingMessage, res: ServerResponse, query: URLSearchParams) => unknown;

const HANDLERS: Readonly<Record<string, Handler>> = {
  '/bytes': sendBytes,
  '/echo': echo,
  '/upload': receive,
  '/early': rejectEarly,
  '/slow': respondSlowly,
  '/status': respondStatus,
  '/events': sendEvents,
  '/endless': sendEndlessly,
  '/mcp': useSession,
  '/malformed': seeMalformed,
};

/** The number of calls of each session. */
const sessions = new Map<string, number>();
let openRequests = 0;

const server = createServer(
  { keepAliveTimeout: Number(process.env.SOAK_KEEP_ALIVE_MS), requestTimeout: 0 },
  (req, res) => {
    openRequests += 1;
    res.once('close', () => (openRequests -= 1));
    for (const [name, value] of marksOf(req)) res.setHeader(name, value);
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://app');
    const handler = HANDLERS[pathname] ?? notFound;
    // Rejects when the client disconnects early, which is no failure of the app.
    Promise.resolve(handler(req, res, searchParams)).catch(() => res.destroy());
  },
);
// Without a sidecar in between, clients that have ended their side still get their response.
Object.assign(server, { httpAllowHalfOpen: true });

const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
webSockets.on('headers', (lines, req) => {
  for (const [name, value] of marksOf(req)) lines.push(`${name}: ${value}`);
});
webSockets.on('connection', (socket) => {
  socket.on('error', () => socket.terminate());
  socket.on('message', (message: Buffer, isBinary) => {
    if (!isBinary && message.toString() === CLOSE_PLEASE)
      socket.close(REQUESTED_CLOSE_CODE, 'asked');
    else socket.send(message, { binary: isBinary });
  });
});
server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
  socket.on('error', () => socket.destroy());
  webSockets.handleUpgrade(req, socket, head, (opened) => {
    webSockets.emit('connection', opened, req);
  });
});

server.listen(Number(process.env.PORT), '127.0.0.1', 1_024, () => report({ kind: 'listening' }));
process.on('message', () =>
  report({ kind: 'open', requests: openRequests, webSockets: webSockets.clients.size }),
);
process.on('disconnect', () => process.exit());

function report(message: AppMessage): void {
  process.send?.(message);
}

/** The app's name and the response. */
function marksOf(req: IncomingMessage): readonly (readonly [string, string])[] {
  return [
    ['x-soak-app', NAME],
    ['x-soak-id', req.headers['x-soak-id']?.toString() ?? ''],
  ];
}

function notFound(_req: IncomingMessage, res: ServerResponse): void {
  res.writeHead(500).end('no such path');
}

async function sendBytes(
  req: IncomingMessage,
  res: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  const length = Number(query.get('length'));
  req.resume();
  res.setHeader('content-type', 'application/octet-stream');
  if (query.get('framing') !== 'chunked') res.setHeader('content-length', length);
  if (req.method === 'HEAD') res.end();
  else await pipeline(Readable.from(pieces(Number(query.get('seed')), length)), res);
}

function* pieces(seed: number, length: number): Generator<Buffer> {
  for (let at = 0; at < length; at += PIECE_BYTES) {
    yield payload(seed, Math.min(PIECE_BYTES, length - at), at);
  }
}

/** Responds while the request is still being received. */
async function echo(req: IncomingMessage, res: ServerResponse): Promise<void> {
  res.writeHead(200, { 'content-type': 'application/octet-stream' });
  await pipeline(req, res);
}

async function receive(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of req as AsyncIterable<Buffer>) {
    bytes += piece.length;
    hash.update(piece);
  }
  respondJson(res, 200, { bytes, sha256: hash.digest('hex') });
}

/**
 * The rest of the body is read, so that the connection stays open until the client has the
 * response.
 */
function rejectEarly(req: IncomingMessage, res: ServerResponse, query: URLSearchParams): void {
  req.resume();
  if (query.get('connection') === 'close') rejectAndEnd(req);
  else respondJson(res, 413, { reason: 'too large' });
}

/**
 * The app ends its side immediately, which node:http would do only together with the other side.
 */
function rejectAndEnd(req: IncomingMessage): void {
  const marks = marksOf(req).map(([name, value]) => `${name}: ${value}\r\n`);
  req.socket.end(
    `HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n${marks.join('')}\r\n`,
  );
  req.once('end', () => req.socket.destroy());
}

function respondSlowly(req: IncomingMessage, res: ServerResponse, query: URLSearchParams): void {
  req.resume();
  const timer = setTimeout(() => res.end('slow'), Number(query.get('ms')));
  res.once('close', () => clearTimeout(timer));
}

function respondStatus(req: IncomingMessage, res: ServerResponse, query: URLSearchParams): void {
  req.resume();
  res.writeHead(Number(query.get('status'))).end();
}

function sendEvents(req: IncomingMessage, res: ServerResponse, query: URLSearchParams): void {
  const [count, gapMs] = [Number(query.get('count')), Number(query.get('gap'))];
  let sent = 0;
  req.resume();
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  const timer = setInterval(() => {
    sent += 1;
    res.write(`id: ${sent}\ndata: ${query.get('seed') ?? ''} ${sent}\n\n`);
    if (sent >= count) res.end('event: end\ndata: end\n\n');
  }, gapMs);
  // A client that has ended its side gets no stream that may never end.
  const onEnd = (): void => void res.destroy();
  req.socket.once('end', onEnd);
  res.once('close', () => {
    req.socket.off('end', onEnd);
    clearInterval(timer);
  });
}

async function sendEndlessly(
  req: IncomingMessage,
  res: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  let bytes = 0;
  function* counted(): Generator<Buffer> {
    for (const piece of pieces(Number(query.get('seed')), ENDLESS_BYTES)) {
      bytes += piece.length;
      yield piece;
    }
  }
  req.resume();
  try {
    await pipeline(Readable.from(counted()), res);
  } finally {
    report({ kind: 'stalled', bytes });
  }
}

function useSession(req: IncomingMessage, res: ServerResponse): void {
  req.resume();
  const given = req.headers['mcp-session-id']?.toString();
  const session = given ?? `${NAME}-${process.pid}-${crypto.randomUUID()}`;
  const calls = given === undefined ? 0 : sessions.get(session);
  if (calls === undefined) {
    respondJson(res, 404, {
      jsonrpc: '2.0',
      error: { code: -32001, message: 'unknown' },
      id: null,
    });
    return;
  }
  if (given === undefined) res.setHeader('mcp-session-id', session);
  if (req.method === 'DELETE') {
    sessions.delete(session);
    res.writeHead(204).end();
    return;
  }
  sessions.set(session, calls + 1);
  respondJson(res, 200, { session, pid: process.pid, calls: calls + 1 });
}

function seeMalformed(req: IncomingMessage, res: ServerResponse): void {
  report({ kind: 'malformed', id: req.headers['x-soak-id']?.toString() ?? '' });
  req.resume();
  res.end('the app has received a request that it must not receive');
}

function respondJson(res: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length });
  res.end(text);
}
