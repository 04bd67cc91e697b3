/** Servers on bare sockets, whose every byte the test decides, and a receiver that writes down what it hears. */
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { createHttp1Upstream, type Http1UpstreamOptions } from '../../src/http1/client.ts';
import {
  UpstreamError,
  type AnswerSink,
  type AnswerSource,
  type Upstream,
  type UpstreamRequest,
} from '../../src/proxy/upstream.ts';

export interface RawServer {
  readonly origin: string;
  readonly port: number;
  /** Every connection so far, in order. */
  readonly sockets: Socket[];
  /** Takes no more connections. */
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
  return { origin: `http://127.0.0.1:${port}`, port, sockets, close };
}

/** Answers each request without a body (one head, one answer) with the next of these texts; latin-1. */
export function answering(...answers: string[]): (socket: Socket) => void {
  let next = 0;
  return (socket) => {
    onHeads(socket, () => {
      const answer = answers[Math.min(next, answers.length - 1)] ?? '';
      next += 1;
      socket.write(answer, 'latin1');
    });
  };
}

/** Calls `onHead` with each head that comes; bodies are not expected. */
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

export function openUpstream(
  t: TestContext,
  origin: string,
  options: Partial<Http1UpstreamOptions> = {},
): Upstream {
  const upstream = createHttp1Upstream({
    origin,
    headTimeoutMs: 0,
    connectTimeoutMs: 5_000,
    clock: systemClock,
    ...options,
  });
  t.after(() => upstream.close());
  return upstream;
}

export interface Information {
  readonly statusCode: number;
  readonly rawHeaders: string[];
}

export type Failure = Pick<UpstreamError, 'code' | 'wasNotSent' | 'wasReused'>;

/** Writes down everything, and checks the order that the port promises. */
export class Recorder implements AnswerSink {
  source: AnswerSource | undefined;
  readonly informations: Information[] = [];
  statusCode: number | undefined;
  rawHeaders: string[] = [];
  readonly chunks: Buffer[] = [];
  rawTrailers: readonly string[] | undefined;
  socket: Duplex | undefined;
  error: Error | undefined;
  isOver = false;
  /** What was called, in order. */
  readonly calls: string[] = [];
  onCall: (name: string) => void = () => undefined;
  /** Copies what may be released, and releases it. */
  releases = false;
  releaseCount = 0;
  readonly #waiting = new Set<() => void>();

  get body(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get text(): string {
    return this.body.toString('latin1');
  }

  /** The code of the error, or the message of one that the test gave. */
  get errorCode(): string | undefined {
    return this.error instanceof UpstreamError ? this.error.code : this.error?.message;
  }

  /** What a caller decides about another try by. */
  get failure(): Failure | undefined {
    if (!(this.error instanceof UpstreamError)) return undefined;
    const { code, wasNotSent, wasReused } = this.error;
    return { code, wasNotSent, wasReused };
  }

  /** Resolves when the condition holds after a call; rejects if all is over before. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!holds() && !this.isOver) return;
        this.#waiting.delete(look);
        if (holds()) resolve();
        else reject(new Error(`over after ${this.calls.join(' ')}: ${String(this.error)}`));
      };
      this.#waiting.add(look);
      look();
    });
  }

  over(): Promise<void> {
    return this.until(() => this.isOver);
  }

  onSent(source: AnswerSource): void {
    this.source = source;
    this.#note('sent');
  }

  onInformation(statusCode: number, rawHeaders: string[]): void {
    this.informations.push({ statusCode, rawHeaders });
    this.#note('information');
  }

  onHead(statusCode: number, rawHeaders: string[]): void {
    this.statusCode = statusCode;
    this.rawHeaders = rawHeaders;
    this.#note('head');
  }

  onData(chunk: Buffer, release?: () => void): void {
    if (!this.releases || !release) {
      this.chunks.push(chunk);
    } else {
      this.chunks.push(Buffer.from(chunk));
      this.releaseCount += 1;
      release();
      // Once is all that counts.
      setImmediate(release);
    }
    this.#note('data');
  }

  onEnd(rawTrailers: readonly string[]): void {
    this.rawTrailers = rawTrailers;
    this.#end('end');
  }

  onUpgrade(statusCode: number, rawHeaders: string[], socket: Duplex): void {
    this.statusCode = statusCode;
    this.rawHeaders = rawHeaders;
    this.socket = socket;
    this.#end('upgrade');
  }

  onError(error: Error): void {
    this.error = error;
    this.#end('error');
  }

  #end(name: string): void {
    this.#note(name);
    this.isOver = true;
    this.#wake();
  }

  #note(name: string): void {
    if (this.isOver) throw new Error(`${name} was called after the last call`);
    this.calls.push(name);
    this.onCall(name);
    this.#wake();
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look();
  }
}

export const GET: UpstreamRequest = {
  method: 'GET',
  path: '/',
  headers: ['Host', 'app.test'],
  body: null,
  upgrade: undefined,
};

/** Until a connection that was just freed may be used again: two turns, and one for the order of things. */
export async function cooled(): Promise<void> {
  for (let i = 0; i < 3; i += 1) await nextTurn();
}

/** Sends and waits until all is over, and the connection is free. */
export async function exchange(
  upstream: Upstream,
  request: Partial<UpstreamRequest> = {},
  recorder = new Recorder(),
): Promise<Recorder> {
  upstream.send({ ...GET, ...request }, recorder);
  await recorder.over();
  await cooled();
  return recorder;
}

/** Resolves when the condition holds; looks after every turn of the event loop. */
export async function eventually(holds: () => boolean, boundMs = 5_000): Promise<void> {
  const until = performance.now() + boundMs;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`not within ${boundMs} ms: ${String(holds)}`);
    await nextTurn();
  }
}

/** Everything that a socket brings until it ends, as latin-1. */
export function transcript(socket: Socket): { text: string; hasEnded: boolean } {
  const seen = { text: '', hasEnded: false };
  socket.on('data', (bytes: Buffer) => (seen.text += bytes.toString('latin1')));
  socket.on('close', () => (seen.hasEnded = true)).on('end', () => (seen.hasEnded = true));
  return seen;
}
