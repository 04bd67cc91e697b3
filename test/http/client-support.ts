/** A listener of the engine with a handler of the test, and requests without a listener. */
import type { MalformedRequest } from '../../src/http/request-head.ts';
import { RequestParser } from '../../src/http/request-parser.ts';
import { BufferBudget } from '../../src/http/buffers.ts';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Socket, type AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { DEFAULT_LIMITS, type Limits } from '../../src/http/limits.ts';
import { createHttpListener, type HttpListener } from '../../src/http/listener.ts';
import { IncomingRequest, type IncomingRequestListener } from '../../src/http/incoming-request.ts';
import type { RequestConnection } from '../../src/http/request-connection.ts';
import { Sweep } from '../../src/http/sweep.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { eventually, TRAILERS } from './support.ts';

export interface TestListener {
  readonly port: number;
  readonly listener: HttpListener;
  readonly sweep: Sweep;
  readonly budget: BufferBudget;
  /** The server's side of every connection so far, in order. */
  readonly sockets: readonly Socket[];
  /** Why heads were rejected. */
  readonly rejected: readonly MalformedRequest[];
  readonly faults: readonly unknown[];
  /** How many connections were over the limit. */
  rejectedConnections(): number;
  /** Connects a client. `staysOpen`: it does not end its side when the server does. */
  readonly connect: (staysOpen?: boolean) => Promise<RawClient>;
}

export interface TestListenerOptions {
  readonly clock?: Clock;
  readonly limits?: Partial<Limits>;
  readonly isEnding?: () => boolean;
}

/** Listens on 127.0.0.1 until the test ends. A rejected head gets its status and reason. */
export async function startListener(
  t: TestContext,
  handle: (request: IncomingRequest) => void,
  { clock = systemClock, limits = {}, isEnding = () => false }: TestListenerOptions = {},
): Promise<TestListener> {
  const sockets: Socket[] = [];
  const rejected: MalformedRequest[] = [];
  const faults: unknown[] = [];
  const sweep = new Sweep(clock);
  const budget = new BufferBudget(Infinity);
  let rejectedCount = 0;
  const listener = createHttpListener({
    handler: {
      handle,
      handleMalformed: (request, why) => {
        rejected.push(why);
        request.respond({ status: why.status, headers: [], body: why.reason }, true);
      },
    },
    limits: { ...DEFAULT_LIMITS, ...limits },
    protectedNames: new Set(['mcp-session-id']),
    trailers: TRAILERS,
    budget,
    sweep,
    // The grace period of a close runs in real time.
    clock: systemClock,
    isEnding,
    onFault: (error) => faults.push(error),
    onRefusedConnection: () => (rejectedCount += 1),
  });
  listener.server.on('connection', (socket) => sockets.push(socket));
  listener.server.listen(0, '127.0.0.1');
  await once(listener.server, 'listening');
  t.after(() => listener.close(0));
  const { port } = listener.server.address() as AddressInfo;

  async function connect(staysOpen = false): Promise<RawClient> {
    const count = sockets.length;
    const client = await openRawClient(port, '127.0.0.1', staysOpen);
    t.after(() => client.socket.destroy());
    await eventually(() => sockets.length > count);
    return client;
  }

  const rejectedConnections = (): number => rejectedCount;
  return { port, listener, sweep, budget, sockets, rejected, faults, rejectedConnections, connect };
}

/** A request whose body the test delivers. Nothing reads the response. */
export function createIncomingRequest(t: TestContext, text: string): IncomingRequest {
  const limits = { headBytes: 1_000, fields: 10, targetBytes: 100 };
  const parser = new RequestParser({ ...limits, protectedNames: new Set() });
  const parsed = parser.parse(Buffer.from(text), 0, text.length);
  assert.ok(parsed && 'head' in parsed);
  const socket = new Socket().on('error', () => undefined);
  t.after(() => socket.destroy());
  const connection: RequestConnection = {
    socket,
    isEnding: false,
    setBodyPaused: () => undefined,
    mayDrainBody: () => true,
    finish: () => undefined,
    destroy: () => undefined,
    openTunnel: () => assert.fail(),
    account: () => undefined,
  };
  return new IncomingRequest(connection, parsed.head, false);
}

/** Records the events of a request. */
export class RecordingListener implements IncomingRequestListener {
  body = '';
  hasEnded = false;
  malformedBody: MalformedRequest | undefined;
  hasDisconnected = false;
  writableCount = 0;

  onRequestBody(bytes: Buffer): void {
    this.body += bytes.toString('latin1');
  }

  onRequestEnd(): void {
    this.hasEnded = true;
  }

  onMalformedBody(why: MalformedRequest): void {
    this.malformedBody = why;
  }

  onClientWritable(): void {
    this.writableCount += 1;
  }

  onClientDisconnected(): void {
    this.hasDisconnected = true;
  }
}

/** Sends a local response with the target as the body. */
export function echoTarget(request: IncomingRequest): void {
  request.listen(new RecordingListener());
  request.respond({ status: 200, headers: [], body: request.head.target });
}

/** The response of {@link echoTarget}. */
export function echoed(target: string): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n${target}`;
}

export function get(target: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`;
}
