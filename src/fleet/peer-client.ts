/** Posts JSON to one Machine's peer listener. */
import type { Pool } from 'undici';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { createDialer, DialError, type Dialer, type DialerOptions } from './dial.ts';
import type { Peer } from './directory.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

export interface PeerClient {
  /** Loads what posting needs, so that the first one takes no longer than others. Rejects if that fails. */
  open(): Promise<void>;
  /** The body of a 200; rejects for everything else, an abort included. */
  post(path: string, body: string, signal: AbortSignal): Promise<string>;
  /** Ends what is under way, which rejects; no socket is left when it resolves. */
  close(): Promise<void>;
}

export interface PeerClientOptions {
  readonly peer: Peer;
  readonly addressOf: () => string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly onDialled: DialerOptions['onDialled'];
  readonly loadUndici?: LoadUndici | undefined;
  /** Of one answer; that of a message unless given. */
  readonly maxAnswerBytes?: number;
}

/** The peer is there, and has not answered 200: it may be of another version, or another Machine. */
export class PeerStatusError extends Error {
  override readonly name = 'PeerStatusError';
  readonly status: number;

  constructor(status: number) {
    super(`the peer has answered ${status}`);
    this.status = status;
  }
}

/** Called again after it has rejected. */
export type LoadUndici = () => Promise<Pick<typeof import('undici'), 'Pool'>>;

/** By the first client: undici takes 12 MB of memory, which a Machine on its own does without. */
export const loadUndici: LoadUndici = () => import('undici');

/** One for questions and one more while they are late, one for announcements, one for heartbeats. */
const CONNECTIONS = 4;
/** Longer than a question lives: between far regions the connection is there for the next one. */
const CONNECT_TIMEOUT_MS = 1_000;

/** Where the peer names no shorter time: a new connection takes a round trip that a question may not have. */
const KEEP_ALIVE_MS = 60_000;

/** The other side closed an idle connection just as we used it, all of them at worst. Asking again does no harm. */
const CONNECTION_LOST = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

export function createPeerClient(options: PeerClientOptions): PeerClient {
  const { addressOf, clock, random, onDialled } = options;
  const timeoutMs = CONNECT_TIMEOUT_MS;
  const dialer = createDialer({ addressOf, timeoutMs, clock, onDialled });
  const pool = createLazyPool(options, dialer);

  async function postOnce(path: string, body: string, signal: AbortSignal): Promise<string> {
    const headers = { 'content-type': 'application/json' };
    const request = { method: 'POST', path, headers, body, signal } as const;
    const answer = await (await pool.open()).request(request);
    if (answer.statusCode === 200) return answer.body.text();
    await answer.body.dump();
    throw new PeerStatusError(answer.statusCode);
  }

  return {
    open: async () => {
      await pool.open();
    },
    post: (path, body, signal) =>
      retry(() => postOnce(path, body, signal), {
        retryCount: CONNECTIONS,
        delayMs: 0,
        isRetryable: isConnectionLost,
        clock,
        random,
        signal,
      }),
    close: async () => {
      dialer.close();
      await pool.close();
    },
  };
}

interface LazyPool {
  open(): Promise<Pool>;
  close(): Promise<void>;
}

function createLazyPool(options: PeerClientOptions, dialer: Dialer): LazyPool {
  const { peer, loadUndici: load = loadUndici, maxAnswerBytes = MAX_MESSAGE_BYTES } = options;
  let opening: Promise<Pool> | undefined;
  let isClosed = false;

  async function openOnce(): Promise<Pool> {
    const undici = await load();
    if (isClosed) throw new DialError('closed');
    return new undici.Pool(originOf(peer), {
      connections: CONNECTIONS,
      pipelining: 1,
      connect: dialer.connect,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxResponseSize: maxAnswerBytes,
    });
  }

  async function open(): Promise<Pool> {
    try {
      return await (opening ??= openOnce());
    } catch (error) {
      opening = undefined;
      throw error;
    }
  }

  return {
    open,
    close: async () => {
      isClosed = true;
      // One that can't be opened has nothing to close.
      const opened = await opening?.catch(() => undefined);
      await opened?.destroy();
    },
  };
}

function originOf({ host, port }: Peer): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && 'code' in error && CONNECTION_LOST.has(String(error.code));
}
