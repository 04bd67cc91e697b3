/**
 * The upstream beside us, reached by an HTTP/1.1 client of our own: strict about what it takes for
 * an answer, and cheaper per request than a general one, as it builds no streams and parses nothing
 * that a proxy does not need. One request at a time per connection, never a pipeline.
 *
 *   send --one is idle--> reserved --next tick, or a turn later if in doubt--> sent
 *     |                                                                         |
 *     '--none is idle--> connecting --> sent                 idle <--a turn later-- answered
 */
import type { Clock } from '../clock.ts';
import {
  UpstreamError,
  type AnswerSink,
  type Upstream,
  type UpstreamRequest,
} from '../proxy/upstream.ts';
import { Call, destroyBody } from './call.ts';
import {
  closedError,
  Connection,
  type ConnectionOptions,
  type ConnectionOwner,
} from './connection.ts';
import {
  createIdleConnections,
  type IdleConnections,
  type TakenConnection,
} from './idle-connections.ts';
import { createKeepAliveRule, DEFAULT_KEEP_ALIVE_MS } from './keep-alive.ts';
import { MalformedRequest } from './malformed.ts';
import { BufferPool } from './read-buffers.ts';
import { openPlain, openPooled, type Address } from './sockets.ts';
import { createTurnQueue } from './turn-queue.ts';

export interface Http1UpstreamOptions {
  /** Such as `http://127.0.0.1:3000`; the scheme must be `http`. */
  readonly origin: string;
  /** How long an answer's head may take, in ms, once it is the server's turn; 0 for ever. */
  readonly headTimeoutMs: number;
  /** In ms; 0 for ever. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
  /** How long an idle connection is kept if the server does not say, in ms. */
  readonly keepAliveMs?: number;
  /** Of an answer's head, and of its trailers, in bytes. */
  readonly maxHeadBytes?: number;
}

const DEFAULT_MAX_HEAD_BYTES = 65_536;

/** Throws if `origin` is no `http:` URL. Nothing is connected before the first request. */
export function createHttp1Upstream(options: Http1UpstreamOptions): Upstream {
  return new Http1Client(options);
}

class Http1Client implements Upstream, ConnectionOwner {
  readonly #keepAliveMsOf: (keepAlive: string | undefined) => number;
  readonly #reusable: ConnectionOptions;
  readonly #forUpgrade: ConnectionOptions;
  readonly #idle: IdleConnections;
  readonly #connections = new Set<Connection>();
  /** Freed, but not yet to be used. */
  readonly #cooling = createTurnQueue<Connection>((connection) => this.#onCooled(connection));
  /** Reserved, but to be looked at once more. */
  readonly #doubted = createTurnQueue<Connection>(startOn);
  #closing: PromiseWithResolvers<undefined> | undefined;

  constructor(options: Http1UpstreamOptions) {
    const { origin, keepAliveMs = DEFAULT_KEEP_ALIVE_MS } = options;
    const address = addressOf(origin);
    const shared = { maxHeadBytes: DEFAULT_MAX_HEAD_BYTES, ...options };
    const openReusable = openPooled(address, new BufferPool());
    this.#keepAliveMsOf = createKeepAliveRule(keepAliveMs);
    this.#reusable = { ...shared, open: openReusable, isReusable: true };
    this.#forUpgrade = { ...shared, open: openPlain(address), isReusable: false };
    this.#idle = createIdleConnections(options.clock);
  }

  send(request: UpstreamRequest, sink: AnswerSink): void {
    const call = createCall(request, sink);
    if (call) this.#dispatch(call);
  }

  async close(): Promise<void> {
    this.#closing ??= Promise.withResolvers();
    this.#idle.clear();
    for (const connection of this.#connections) connection.close();
    if (this.#connections.size === 0) this.#closing.resolve(undefined);
    await this.#closing.promise;
  }

  /** An answer longer than its length shows within a turn: its tail must not answer the next request. */
  onFree(connection: Connection): void {
    this.#cooling.push(connection);
  }

  #onCooled(connection: Connection): void {
    if (!connection.isIdle) return;
    this.#idle.add(connection, this.#keepAliveMsOf(connection.keepAlive));
  }

  /** A server that restarts ends them all at once: the second try must not go into the next one. */
  onLost(): void {
    this.#idle.doubtAll();
  }

  onUnsent(call: Call): void {
    this.#dispatch(call);
  }

  onClosed(connection: Connection): void {
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#closing?.resolve(undefined);
  }

  #dispatch(call: Call): void {
    if (this.#closing) {
      process.nextTick(failWith, call, closedError({ wasNotSent: true, wasReused: false }));
      return;
    }
    const taken = call.upgrade === undefined ? this.#idle.take() : undefined;
    if (taken) this.#carryOn(taken, call);
    else this.#connect(call);
  }

  #carryOn({ connection, isInDoubt }: TakenConnection, call: Call): void {
    connection.reserve(call);
    if (isInDoubt) this.#doubted.push(connection);
    else process.nextTick(startOn, connection);
  }

  #connect(call: Call): void {
    const options = call.upgrade === undefined ? this.#reusable : this.#forUpgrade;
    this.#connections.add(new Connection(call, options, this));
  }
}

/** Undefined if the request can't be sent; its sink will hear why. */
function createCall(request: UpstreamRequest, sink: AnswerSink): Call | undefined {
  try {
    return new Call(request, sink);
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
    const failed = new UpstreamError('malformed-request', error.message, { wasNotSent: true });
    process.nextTick(() => {
      destroyBody(request.body);
      sink.onError(failed);
    });
    return undefined;
  }
}

function startOn(connection: Connection): void {
  connection.start();
}

function failWith(call: Call, error: Error): void {
  call.fail(error);
}

function addressOf(origin: string): Address {
  const { protocol, hostname, port } = new URL(origin);
  if (protocol !== 'http:') throw new Error(`the upstream must be http:, not ${protocol}`);
  // An IPv6 address stands in brackets in a URL only.
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return { host, port: port === '' ? 80 : Number(port) };
}
