/** Raw socket servers that send exactly the bytes of the test, and a response handler that records its calls. */
import type { BufferOwnership, TunnelEnd } from '../../src/http/socket.ts';
import { BufferBudget, ReadBuffers } from '../../src/http/buffers.ts';
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { formatFields } from '../../src/http/head-text.ts';
import type { ParsedResponseHead } from '../../src/http/response-head.ts';
import { Sweep } from '../../src/http/sweep.ts';
import type { TrailerOptions } from '../../src/http/chunks.ts';
import {
  type SerializedRequest,
  type ResponseHandler,
  type UpstreamRequest,
  type UpstreamTunnel,
  UpstreamError,
} from '../../src/http/upstream-request.ts';
import { UpstreamPool, type UpstreamPoolOptions } from '../../src/http/upstream-pool.ts';

export interface RawServer {
  readonly port: number;
  /** Every connection so far, in order. */
  readonly sockets: Socket[];
  /** Stops accepting connections. */
  readonly close: () => Promise<void>;
}

/** `onConnection` gets the number of the connection, from 0. */
export async function startRawServer(
  t: TestContext,
  onConnection: (socket: Socket, index: number) => void,
): Promise<RawServer> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    sockets.push(socket);
    onConnection(socket, sockets.length - 1);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    if (server.listening) await once(server.close(), 'close');
  };
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    return close();
  });
  const { port } = server.address() as AddressInfo;
  return { port, sockets, close };
}

/** Responds to each request head with the next of these latin-1 texts. Request bodies are not supported. */
export function responding(...responses: string[]): (socket: Socket) => void {
  let next = 0;
  return (socket) => {
    onHeads(socket, () => {
      const response = responses[Math.min(next, responses.length - 1)] ?? '';
      next += 1;
      socket.write(response, 'latin1');
    });
  };
}

/** Calls `onHead` with each received head. Bodies are not supported. */
export function onHeads(socket: Socket, onHead: (head: string) => void): void {
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
    for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
      const head = text.slice(0, end + 4);
      text = text.slice(end + 4);
      onHead(head);
    }
  });
}

export const TRAILERS: TrailerOptions = {
  maxBytes: 65_536,
  maxFields: 500,
  forbidden: new Set(['mcp-session-id']),
};

/** A request to serialize, and its body. */
export interface SentRequest {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value. Without `Content-Length` a stream body is sent in chunks. */
  readonly headers: readonly string[];
  readonly body: Buffer | Readable | null;
  /** The value of the `Upgrade` header. */
  readonly upgrade: string | undefined;
}

export const GET: SentRequest = {
  method: 'GET',
  path: '/',
  headers: ['Host', 'app.test'],
  body: null,
  upgrade: undefined,
};

export interface TestUpstream {
  readonly pool: UpstreamPool;
  readonly sweep: Sweep;
  send(request: SentRequest, recorder: Recorder): UpstreamRequest;
  close(): Promise<void>;
}

export interface TestUpstreamOptions extends Partial<UpstreamPoolOptions> {
  readonly host?: string;
  readonly clock?: Clock;
}

/** A connection pool for a port. It closes after the test. */
export function openUpstream(
  t: TestContext,
  port: number,
  { host = '127.0.0.1', clock = systemClock, ...options }: TestUpstreamOptions = {},
): TestUpstream {
  const sweep = new Sweep(clock);
  const pool = new UpstreamPool({
    address: () => ({ host, port }),
    headBytes: 65_536,
    fields: 500,
    maxConnections: 1_000,
    connectTimeoutMs: 5_000,
    headTimeoutMs: 0,
    trailers: TRAILERS,
    buffers: new ReadBuffers(),
    budget: new BufferBudget(Infinity),
    sweep,
    onFault: (error) => {
      throw error;
    },
    ...options,
  });
  t.after(() => pool.close());
  const send = (request: SentRequest, recorder: Recorder): UpstreamRequest => {
    const call = pool.send(outgoing(request), recorder);
    recorder.begin(call, request);
    return call;
  };
  return { pool, sweep, send, close: () => pool.close() };
}

/** The serialized head of a request, and the available part of its body. */
function outgoing({ method, path, headers, body, upgrade }: SentRequest): SerializedRequest {
  let fields = formatFields(headers);
  if (isChunked({ headers, body })) fields += 'Transfer-Encoding: chunked\r\n';
  if (Buffer.isBuffer(body) && !hasLength(headers)) fields += `Content-Length: ${body.length}\r\n`;
  if (upgrade !== undefined) fields += `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
  return {
    method,
    head: `${method} ${path} HTTP/1.1\r\n${fields}\r\n`,
    body: Buffer.isBuffer(body) ? body : undefined,
    isComplete: body === null || Buffer.isBuffer(body),
    upgrade,
  };
}

function isChunked({ headers, body }: Pick<SentRequest, 'headers' | 'body'>): boolean {
  return body !== null && !Buffer.isBuffer(body) && !hasLength(headers);
}

function hasLength(headers: readonly string[]): boolean {
  return headers.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'content-length');
}

/** Sends a body from a stream, with backpressure. */
class Upload {
  readonly #call: UpstreamRequest;
  readonly #body: Readable;
  readonly #isChunked: boolean;
  #hasStarted = false;

  constructor(call: UpstreamRequest, body: Readable, isInChunks: boolean) {
    this.#call = call;
    this.#body = body;
    this.#isChunked = isInChunks;
  }

  resume(): void {
    if (this.#hasStarted) this.#body.resume();
    else this.#start();
  }

  #start(): void {
    this.#hasStarted = true;
    this.#body.on('data', (bytes: Buffer) => {
      if (bytes.length > 0 && !this.#call.write(this.#framed(bytes))) this.#body.pause();
    });
    this.#body.on('end', () => {
      if (this.#isChunked) this.#call.write(Buffer.from('0\r\n\r\n'));
      this.#call.endBody();
    });
  }

  #framed(bytes: Buffer): Buffer {
    if (!this.#isChunked) return bytes;
    return Buffer.concat([
      Buffer.from(`${bytes.length.toString(16)}\r\n`),
      bytes,
      Buffer.from('\r\n'),
    ]);
  }
}

export interface Interim {
  readonly statusCode: number;
  readonly rawHeaders: readonly string[];
}

export type Failure = Pick<UpstreamError, 'code' | 'wasNotSent' | 'wasReused'>;

type CallName = 'interim' | 'head' | 'body' | 'end' | 'upgrade' | 'error' | 'fault';

/** Records all calls, and checks the order that {@link ResponseHandler} guarantees. */
export class Recorder implements ResponseHandler {
  call: UpstreamRequest | undefined;
  /** True: chunks are decoded. False: the body keeps its framing. */
  decodes = true;
  readonly interims: Interim[] = [];
  head: ParsedResponseHead | undefined;
  readonly chunks: Buffer[] = [];
  tunnel: UpstreamTunnel | undefined;
  /** Bytes after the head of a 101. */
  rest = '';
  error: UpstreamError | undefined;
  isOver = false;
  isBodyUnwanted = false;
  /** Names of the calls, in order. */
  readonly calls: CallName[] = [];
  onCall: (name: CallName) => void = () => undefined;
  /** Replaces the recording of body bytes. Returns whether to continue reading. */
  onBytes: ((bytes: Buffer, ownership: BufferOwnership) => boolean) | undefined;
  #upload: Upload | undefined;
  readonly #waiting = new Set<() => void>();

  get statusCode(): number | undefined {
    return this.head?.statusCode;
  }

  get rawHeaders(): readonly string[] {
    return this.head?.rawHeaders ?? [];
  }

  get body(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get text(): string {
    return this.body.toString('latin1');
  }

  get errorCode(): string | undefined {
    return this.error?.code;
  }

  /** The properties that decide about a retry. */
  get failure(): Failure | undefined {
    if (!this.error) return undefined;
    const { code, wasNotSent, wasReused } = this.error;
    return { code, wasNotSent, wasReused };
  }

  begin(call: UpstreamRequest, { headers, body }: SentRequest): void {
    this.call = call;
    if (body === null || Buffer.isBuffer(body)) return;
    this.#upload = new Upload(call, body, isChunked({ headers, body }));
    if (call.wasSent && call.wasWritable) this.#upload.resume();
  }

  /** Resolves when the condition is true after a call. Rejects if the response ends before that. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!holds() && !this.isOver) return;
        this.#waiting.delete(check);
        if (holds()) resolve();
        else reject(new Error(`over after ${this.calls.join(' ')}: ${String(this.error)}`));
      };
      this.#waiting.add(check);
      check();
    });
  }

  over(): Promise<void> {
    return this.until(() => this.isOver);
  }

  onInterim({ statusCode, rawHeaders }: ParsedResponseHead): void {
    this.interims.push({ statusCode, rawHeaders });
    this.#note('interim');
  }

  onHead(head: ParsedResponseHead): void {
    this.head = head;
    if (this.decodes) this.call?.decodeBody();
    this.#note('head');
  }

  onResponseBody(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    const part = bytes.subarray(start, end);
    const mayGoOn = this.onBytes?.(part, ownership);
    if (mayGoOn === undefined) this.chunks.push(ownership === 'kept' ? part : Buffer.from(part));
    this.#note('body');
    return mayGoOn ?? true;
  }

  onResponseEnd(): void {
    this.#end('end');
  }

  onReadDone(): void {
    // Needed only by a handler that holds heads.
  }

  onUpgrade(head: ParsedResponseHead, tunnel: UpstreamTunnel, rest: Buffer): void {
    this.head = head;
    this.tunnel = tunnel;
    this.rest = rest.toString('latin1');
    this.#end('upgrade');
  }

  onUpstreamWritable(): void {
    this.#upload?.resume();
    this.#wake();
  }

  onBodyUnwanted(): void {
    this.isBodyUnwanted = true;
    this.#wake();
  }

  onError(error: UpstreamError): void {
    this.error = error;
    this.#end('error');
  }

  onFault(): void {
    // A call after the end of a response may throw too.
    this.isOver = false;
    this.#end('fault');
  }

  #end(name: CallName): void {
    this.#note(name);
    this.isOver = true;
    this.#wake();
  }

  #note(name: CallName): void {
    if (this.isOver) throw new Error(`${name} was called after the last call`);
    this.calls.push(name);
    this.onCall(name);
    this.#wake();
  }

  #wake(): void {
    for (const check of [...this.#waiting]) check();
  }
}

/** The client side of a tunnel, which records its calls. */
export class RecordingEnd implements TunnelEnd {
  text = '';
  hasEnded = false;
  /** How the other side was closed. */
  closedBy: 'reset' | 'close' | undefined;
  resumeCount = 0;
  isWritable = true;

  write(bytes: Buffer, start: number, end: number): boolean {
    this.text += bytes.toString('latin1', start, end);
    return this.isWritable;
  }

  resume(): void {
    this.resumeCount += 1;
  }

  end(): void {
    this.hasEnded = true;
  }

  closeTunnel(resets: boolean): void {
    this.closedBy = resets ? 'reset' : 'close';
  }
}

/** Waits until a freed connection may be reused: two turns, and one more for the order of events. */
export async function untilReusable(): Promise<void> {
  for (let i = 0; i < 3; i += 1) await nextTurn();
}

/** Sends a request and waits until the response has ended and the connection is free. */
export async function sendRequest(
  upstream: TestUpstream,
  request: Partial<SentRequest> = {},
  recorder = new Recorder(),
): Promise<Recorder> {
  upstream.send({ ...GET, ...request }, recorder);
  await recorder.over();
  await untilReusable();
  return recorder;
}

/** Resolves when the condition is true. Checks it after every turn of the event loop. */
export async function eventually(holds: () => boolean, boundMs = 5_000): Promise<void> {
  const until = performance.now() + boundMs;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`not within ${boundMs} ms: ${String(holds)}`);
    await nextTurn();
  }
}

/** Everything that a socket receives until it ends, as latin-1. */
export function transcript(socket: Socket): { text: string; hasEnded: boolean } {
  const seen = { text: '', hasEnded: false };
  socket.on('data', (bytes: Buffer) => (seen.text += bytes.toString('latin1')));
  socket.on('close', () => (seen.hasEnded = true)).on('end', () => (seen.hasEnded = true));
  return seen;
}
