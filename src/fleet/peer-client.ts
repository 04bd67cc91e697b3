/** Posts JSON to one Machine's peer listener. */
import { errors, Pool } from 'undici';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { createDialer, type DialerOptions } from './dial.ts';
import type { Peer } from './directory.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

export interface PeerClient {
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
}

/** One for questions, one for announcements. */
const CONNECTIONS = 2;
/** Longer than a question lives: between far regions the connection is there for the next one. */
const CONNECT_TIMEOUT_MS = 1_000;

/** Where the peer names no shorter time: a new connection takes a round trip that a question may not have. */
const KEEP_ALIVE_MS = 60_000;

/** The other side closed an idle connection just as we used it, all of them at worst. Asking again does no harm. */
const CONNECTION_LOST = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

export function createPeerClient(options: PeerClientOptions): PeerClient {
  const { peer, addressOf, clock, random, onDialled } = options;
  const timeoutMs = CONNECT_TIMEOUT_MS;
  const dialer = createDialer({ addressOf, timeoutMs, clock, onDialled });
  const pool = new Pool(originOf(peer), {
    connections: CONNECTIONS,
    pipelining: 1,
    connect: dialer.connect,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxResponseSize: MAX_MESSAGE_BYTES,
  });

  async function postOnce(path: string, body: string, signal: AbortSignal): Promise<string> {
    const headers = { 'content-type': 'application/json' };
    const answer = await pool.request({ method: 'POST', path, headers, body, signal });
    if (answer.statusCode === 200) return answer.body.text();
    await answer.body.dump();
    throw new errors.ResponseError('the peer refused', answer.statusCode, {});
  }

  return {
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
      await pool.destroy();
    },
  };
}

function originOf({ host, port }: Peer): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && 'code' in error && CONNECTION_LOST.has(String(error.code));
}
