/** Connections to one HTTP/1.1 server: the app beside us, or the sidecar of a peer. */
import { Pool, type buildConnector, type Dispatcher } from 'undici';

/** Connecting on loopback or over 6PN takes milliseconds; beyond this, in ms, nobody is there. */
export const CONNECT_TIMEOUT_MS = 5_000;

export interface Upstream {
  /** Sends one request; every outcome reaches the handler. */
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): void;
  /** Breaks off what is under way and closes every connection. */
  close(): Promise<void>;
}

export interface UpstreamOptions {
  /** Such as `http://127.0.0.1:3000`. */
  readonly origin: string;
  /** How to connect, where the origin's name is not for the system's resolver. */
  readonly connect?: buildConnector.connector;
  /** How long the head of an answer may take in ms; 0 for ever. */
  readonly headTimeoutMs: number;
}

/** A tunnel's end on one side is an end on the other, and no more. */
const CONNECT = { timeout: CONNECT_TIMEOUT_MS, allowHalfOpen: true };

export function createUpstream({ origin, connect, headTimeoutMs }: UpstreamOptions): Upstream {
  const pool = new Pool(origin, {
    pipelining: 1,
    headersTimeout: headTimeoutMs,
    // SSE is silent for hours; undici's default would cut it after 300 s.
    bodyTimeout: 0,
    allowH2: false,
    connect: connect ?? CONNECT,
  });
  return {
    dispatch: (options, handler) => void pool.dispatch(options, handler),
    close: () => pool.destroy(),
  };
}
