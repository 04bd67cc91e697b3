/** Posts JSON to the peer listener of one Machine, at its current address. */
import { connect as connectSocket, type Socket } from 'node:net';
import type { buildConnector, Pool } from 'undici';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import type { Peer } from './directory.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';
import { codeOf } from '../errors.ts';

export interface PeerClient {
  /** Loads undici, so that the first post takes no longer than others. Rejects if that fails. */
  open(): Promise<void>;
  /** The body of a 200. Rejects with {@link PeerTimeoutError}, {@link PeerStatusError}, or an error of undici. */
  post(path: string, body: string, options: PostOptions): Promise<string>;
  /** Aborts what is in flight, which rejects: the next post uses a new connection. */
  reconnect(): void;
  /** Aborts what is in flight, which rejects; no socket is left when it resolves. */
  close(): Promise<void>;
}

interface PostOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

interface PeerClientOptions {
  readonly peer: Peer;
  readonly addressOf: () => string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly onDialled: DialerOptions['onDialled'];
  readonly loadUndici?: LoadUndici | undefined;
  /** The limit of the response; `MAX_MESSAGE_BYTES` by default. */
  readonly maxResponseBytes?: number;
}

/** The response was not a 200: the peer may have another version, or the address now belongs to another Machine. */
export class PeerStatusError extends Error {
  override readonly name = 'PeerStatusError';
  readonly status: number;

  constructor(status: number) {
    super(`the peer responded ${status}`);
    this.status = status;
  }
}

export class PeerTimeoutError extends Error {
  override readonly name = 'PeerTimeoutError';

  constructor(timeoutMs: number) {
    super(`the peer did not respond within ${timeoutMs} ms`);
  }
}

/** Called again after it has rejected. */
export type LoadUndici = () => Promise<Pick<typeof import('undici'), 'Pool'>>;

/** Loaded by the first client: undici takes 12 MB of memory, which a Machine without peers does not need. */
export const loadUndici: LoadUndici = () => import('undici');

/** One for queries, one more while they are late, one for announcements, one for heartbeats. */
const CONNECTIONS = 4;
/** Longer than a query waits: between distant regions, the next query can use the connection. */
const CONNECT_TIMEOUT_MS = 1_000;

/** Unless the peer sets less: a new connection takes a round trip that a query may not have. */
const KEEP_ALIVE_MS = 60_000;

/** The peer closed an idle connection, or all of them, just as it was used. Retrying is safe. */
const CONNECTION_LOST = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

export function createPeerClient(options: PeerClientOptions): PeerClient {
  const { addressOf, clock, random, onDialled } = options;
  const dialer = createDialer({ addressOf, timeoutMs: CONNECT_TIMEOUT_MS, clock, onDialled });
  const pool = new LazyPool(options, dialer);

  async function postOnce(path: string, body: string, signal: AbortSignal): Promise<string> {
    const headers = { 'content-type': 'application/json' };
    const request = { method: 'POST', path, headers, body, signal } as const;
    const response = await (await pool.open()).request(request);
    if (response.statusCode === 200) return response.body.text();
    await response.body.dump();
    throw new PeerStatusError(response.statusCode);
  }

  async function post(path: string, body: string, options: PostOptions): Promise<string> {
    const deadline = new AbortController();
    const cancelDeadline = clock.after(options.timeoutMs, () => deadline.abort());
    const signal = options.signal
      ? AbortSignal.any([options.signal, deadline.signal])
      : deadline.signal;
    try {
      return await retry(() => postOnce(path, body, signal), {
        ...{ retryCount: CONNECTIONS, delayMs: 0, isRetryable: isConnectionLost },
        ...{ clock, random, signal },
      });
    } catch (error) {
      throw deadline.signal.aborted ? new PeerTimeoutError(options.timeoutMs) : error;
    } finally {
      cancelDeadline();
    }
  }

  return {
    open: () => pool.open().then(() => undefined),
    post,
    reconnect: () => pool.reopen(),
    close: async () => {
      dialer.close();
      await pool.close();
    },
  };
}

/** Opened by the first use; a failed opening is tried again by the next. */
class LazyPool {
  readonly #options: PeerClientOptions;
  readonly #dialer: Dialer;
  #opening: Promise<Pool> | undefined;
  readonly #closing = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: PeerClientOptions, dialer: Dialer) {
    this.#options = options;
    this.#dialer = dialer;
  }

  async open(): Promise<Pool> {
    try {
      return await (this.#opening ??= this.#openOnce());
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
  }

  /** The next use opens a new pool. */
  reopen(): void {
    const closing = this.#destroy();
    this.#opening = undefined;
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([this.#destroy(), ...this.#closing]);
  }

  async #destroy(): Promise<void> {
    // A pool that could not be opened has nothing to close.
    const opened = await this.#opening?.catch(() => undefined);
    await opened?.destroy();
  }

  async #openOnce(): Promise<Pool> {
    const { peer, loadUndici: load = loadUndici } = this.#options;
    const undici = await load();
    if (this.#isClosed) throw new DialError('closed');
    return new undici.Pool(originOf(peer), {
      connections: CONNECTIONS,
      pipelining: 1,
      connect: this.#dialer.connect,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxResponseSize: this.#options.maxResponseBytes ?? MAX_MESSAGE_BYTES,
    });
  }
}

function originOf({ host, port }: Peer): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function isConnectionLost(error: unknown): boolean {
  return CONNECTION_LOST.has(codeOf(error) ?? '');
}

/** `refused`: nothing listens at the port. */
type DialOutcome = 'connected' | 'refused' | 'failed';

interface DialerOptions {
  /** The current address, read for each connection; undefined while it is unknown. */
  readonly addressOf: () => string | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** An attempt to connect has ended, unless {@link Dialer.close} ended it. */
  readonly onDialled?: ((outcome: DialOutcome) => void) | undefined;
}

export interface Dialer {
  /** `connect` option of an undici `Pool`, whose origin gives the port and the `Host` header. */
  readonly connect: buildConnector.connector;
  /** Aborts what is still connecting; undici would leave it to its timeout. */
  close(): void;
}

class DialError extends Error {
  override readonly name = 'DialError';
  readonly code: 'address-unknown' | 'connect-timeout' | 'closed';

  constructor(code: DialError['code']) {
    super(`cannot connect to the peer: ${code}`);
    this.code = code;
  }
}

/**
 * Addresses come from the directory and never from the system's resolver: a name is resolved in the
 * background, so that no query waits for it, and only Machines that the directory lists are dialled.
 */
export function createDialer({ addressOf, timeoutMs, clock, onDialled }: DialerOptions): Dialer {
  const connecting = new Set<Socket>();

  function connect(target: buildConnector.Options, callback: buildConnector.Callback): void {
    const host = addressOf();
    if (host === undefined) {
      // Not within the call: undici is still updating its own state.
      queueMicrotask(() => callback(new DialError('address-unknown'), null));
      return;
    }
    const socket = connectSocket({ host, port: Number(target.port), noDelay: true });
    connecting.add(socket);
    const cancelTimeout = clock.after(timeoutMs, () => {
      socket.destroy(new DialError('connect-timeout'));
    });
    const finish = (error: Error | undefined): void => {
      connecting.delete(socket);
      cancelTimeout();
      socket.off('connect', succeed).off('error', finish);
      if (!isClosed(error)) onDialled?.(outcomeOf(error));
      if (error) callback(error, null);
      else callback(null, socket);
    };
    const succeed = (): void => finish(undefined);
    socket.once('connect', succeed).once('error', finish);
  }

  return {
    connect,
    close: () => connecting.forEach((socket) => socket.destroy(new DialError('closed'))),
  };
}

function outcomeOf(error: NodeJS.ErrnoException | undefined): DialOutcome {
  if (!error) return 'connected';
  return error.code === 'ECONNREFUSED' ? 'refused' : 'failed';
}

/** This side ended the attempt, which proves nothing about the peer. */
function isClosed(error: Error | undefined): boolean {
  return error instanceof DialError && error.code === 'closed';
}
