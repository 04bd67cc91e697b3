/**
 * The connections to one upstream. One request at a time per connection, never a pipeline. The connection
 * that was used last is taken first (LIFO), so that surplus ones become idle and close.
 *
 *   send ─one is idle─> sent at once, or a turn of the event loop later if the connection is in doubt
 *     └─none is idle─> a new connection, sent once it is there
 *
 * A connection becomes idle a turn after its response: a response that is longer than its length says
 * shows within that time, and its rest must not be taken for the next response.
 */
import { ResponseParser } from './response-parser.ts';
import type { BufferBudget, ReadBuffers } from './buffers.ts';
import type { Sweep } from './sweep.ts';
import type { TrailerOptions } from './chunks.ts';
import {
  UpstreamConnection,
  type ConnectionPool,
  type PoolContext,
} from './upstream-connection.ts';
import {
  UpstreamError,
  UpstreamRequest,
  type ResponseHandler,
  type SerializedRequest,
} from './upstream-request.ts';

export interface UpstreamPoolOptions {
  /** The address, looked up for each new connection; undefined while it is unknown. */
  readonly address: PoolContext['address'];
  readonly headBytes: number;
  readonly fields: number;
  /** Names, in lower case, of the fields that `selected` of a response's head contains. */
  readonly selectedNames?: Iterable<string>;
  /** Connections at one time. */
  readonly maxConnections: number;
  readonly connectTimeoutMs: number;
  /** How long the head of a response may take once the request is sent, in ms; 0: no limit. */
  readonly headTimeoutMs: number;
  readonly trailers: TrailerOptions;
  readonly buffers: ReadBuffers;
  readonly budget: BufferBudget;
  readonly sweep: Sweep;
  readonly onDialled?: PoolContext['onDialled'];
  readonly onFault: PoolContext['onFault'];
  /** How long an idle connection is kept if the server does not say, in ms. */
  readonly keepAliveMs?: number;
}

/**
 * After this time, in ms, the server may be about to close an idle connection. No longer than the interval
 * of the sweep, which measures how long a connection has been idle.
 */
const DOUBTFUL_IDLE_MS = 250;

export class UpstreamPool implements ConnectionPool {
  readonly #options: UpstreamPoolOptions;
  readonly #parts: PoolContext;
  readonly #keepAliveMsOf: (keepAlive: string | undefined) => number;
  readonly #connections = new Set<UpstreamConnection>();
  readonly #idle: UpstreamConnection[] = [];
  /** Free, but not used before the next turn of the event loop. */
  #cooling: UpstreamConnection[] = [];
  /** The server may be about to close idle ones that are older. */
  #doubtedAt = -Infinity;
  #closing: PromiseWithResolvers<undefined> | undefined;
  /** Connections are not kept after their requests any more. */
  #isRetired = false;

  constructor(options: UpstreamPoolOptions) {
    this.#options = options;
    this.#keepAliveMsOf = createKeepAliveRule(options.keepAliveMs ?? DEFAULT_KEEP_ALIVE_MS);
    this.#parts = {
      ...options,
      parser: new ResponseParser(options),
      onDialled: options.onDialled ?? ignore,
    };
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Sends a request. `isFresh`: on a new connection. If the request was written within the call,
   * `wasSent` of the returned call is true; otherwise `onUpstreamWritable` of the sink follows once it is
   * written. The sink gets no other call before this one returns. An immediate failure calls `onError` in
   * the next microtask.
   */
  send(request: SerializedRequest, sink: ResponseHandler, isFresh = false): UpstreamRequest {
    const call = new UpstreamRequest(request, sink);
    if (this.#closing) {
      this.#failLater(
        call,
        new UpstreamError('closed', 'the sidecar is stopping', { wasNotSent: true }),
      );
      return call;
    }
    const idle = isFresh || request.upgrade !== undefined ? undefined : this.#takeIdle();
    if (idle) this.#sendOn(idle, call);
    else if (this.#connections.size >= this.#options.maxConnections)
      this.#failLater(call, TOO_MANY);
    else this.#connections.add(new UpstreamConnection(call, this.#parts, this));
    return call;
  }

  #failLater({ sink }: UpstreamRequest, error: UpstreamError): void {
    queueMicrotask(() => {
      try {
        sink.onError(error);
      } catch (fault) {
        // No connection exists yet that would catch an exception.
        this.#parts.onFault(fault);
        sink.onFault();
      }
    });
  }

  #sendOn(connection: UpstreamConnection, call: UpstreamRequest): void {
    const { nowMs } = this.#options.sweep;
    const { idleSince } = connection;
    const isInDoubt = nowMs - idleSince >= DOUBTFUL_IDLE_MS || idleSince <= this.#doubtedAt;
    connection.assign(call);
    if (isInDoubt) setImmediate(sendDoubted, this, connection, call);
    else connection.send();
  }

  /** A turn later: if the connection was closed meanwhile, nothing was sent, and another one carries the call. */
  sendDoubted(connection: UpstreamConnection, call: UpstreamRequest): void {
    if (connection.carries(call)) connection.sendLate();
  }

  #takeIdle(): UpstreamConnection | undefined {
    const { nowMs } = this.#options.sweep;
    for (let connection = this.#idle.pop(); connection; connection = this.#idle.pop()) {
      if (connection.isIdle && connection.idleUntil > nowMs) return connection;
      connection.abort();
    }
    return undefined;
  }

  onFree(connection: UpstreamConnection): void {
    if (this.#cooling.length === 0) setImmediate(cool, this);
    this.#cooling.push(connection);
  }

  cooled(): void {
    const cooled = this.#cooling;
    this.#cooling = [];
    const { nowMs } = this.#options.sweep;
    for (const connection of cooled) {
      if (!connection.isIdle) continue;
      const lifeMs = this.#keepAliveMsOf(connection.keepAlive);
      connection.idleSince = nowMs;
      connection.idleUntil = nowMs + lifeMs;
      if (lifeMs > 0 && !this.#isRetired) this.#idle.push(connection);
      else connection.abort();
    }
  }

  /** A server that restarts ends all its connections: the second try must not go into the next one. */
  onLost(): void {
    this.#doubtedAt = this.#options.sweep.nowMs;
  }

  onClosed(connection: UpstreamConnection): void {
    this.#connections.delete(connection);
    const place = this.#idle.indexOf(connection);
    if (place !== -1) this.#idle.splice(place, 1);
    if (this.#connections.size === 0) this.#closing?.resolve(undefined);
  }

  /** Takes no more requests; resolves once those in flight have ended. */
  async retire(): Promise<void> {
    this.#closing ??= Promise.withResolvers();
    this.#isRetired = true;
    for (const connection of this.#idle.splice(0)) connection.abort();
    if (this.#connections.size === 0) this.#closing.resolve(undefined);
    await this.#closing.promise;
  }

  /** Aborts what is in flight and closes every connection. */
  async close(): Promise<void> {
    const retired = this.retire();
    for (const connection of this.#connections) connection.close();
    await retired;
  }
}

const TOO_MANY = new UpstreamError(
  'too-many-connections',
  'connection limit to the upstream reached',
  { wasNotSent: true },
);

function sendDoubted(
  pool: UpstreamPool,
  connection: UpstreamConnection,
  call: UpstreamRequest,
): void {
  pool.sendDoubted(connection, call);
}

function cool(pool: UpstreamPool): void {
  pool.cooled();
}

function ignore(): void {
  // This attempt has no receiver for errors.
}

/**
 * How long an idle connection to an upstream may be used again (RFC 9112 §9.8). The server may close it
 * first, and a request that is sent into that is lost. Less than the 5 s after which a node:http server
 * closes, the shortest of the usual ones. In ms.
 */
export const DEFAULT_KEEP_ALIVE_MS = 4_000;
/** The server starts to count earlier, so its timeout is shortened by this margin, in ms. */
const MARGIN_MS = 1_000;
/** The upper limit, whatever the server allows: an idle connection costs both sides memory. */
const MAX_KEEP_ALIVE_MS = 60_000;

const TIMEOUT = /(?:^|[,;\s])timeout=(\d{1,9})(?:$|[,;\s])/i;

/** From the value of `Keep-Alive` to ms, 0 or less for not at all; remembers the last one. */
export function createKeepAliveRule(defaultMs: number): (keepAlive: string | undefined) => number {
  let lastText: string | undefined;
  let lastMs = defaultMs;
  return (keepAlive) => {
    // One server says the same each time.
    if (keepAlive === lastText) return lastMs;
    const seconds = keepAlive === undefined ? undefined : TIMEOUT.exec(keepAlive)?.[1];
    lastText = keepAlive;
    lastMs = seconds === undefined ? defaultMs : Number(seconds) * 1000 - MARGIN_MS;
    lastMs = Math.min(lastMs, MAX_KEEP_ALIVE_MS);
    return lastMs;
  };
}
