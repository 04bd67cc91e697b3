/** The jobs of the load generator, and their results. */

/** One candidate's turn. */
export interface TurnJob {
  readonly port: number;
  readonly connections: number;
  readonly warmUpMs: number;
  readonly turnMs: number;
  readonly path: string;
  /** Distributed to the connections in turn; each connection repeats its own. Empty: no request has one. */
  readonly sessionIds: readonly string[];
  /** Process whose CPU time is measured. */
  readonly pid: number;
}

/**
 * Keep-alive connections that send one request after the other, each as soon as the last response
 * has ended.
 */
export interface RequestsJob extends TurnJob {
  readonly kind: 'requests';
  readonly method: 'GET' | 'POST';
  readonly bodyBytes: number;
  /** Header lines in place of the default ones. */
  readonly headers?: readonly string[];
  /** The text at the start of every response's head, and text in the head of the first. */
  readonly expects: { readonly statusLine: string; readonly text: string };
}

/** WebSockets that send one message after the other, each as soon as the last is echoed. */
export interface MessagesJob extends TurnJob {
  readonly kind: 'messages';
  readonly messageBytes: number;
}

/** Opens one connection per session, sends one request on each, and keeps them. */
export interface HoldJob {
  readonly kind: 'hold';
  readonly port: number;
  readonly path: string;
  readonly sessionIds: readonly string[];
  /** Text at the end of every response. */
  readonly expects: string;
}

/** Fails if the candidate has closed one of them. */
interface CheckHeldJob {
  readonly kind: 'check-held';
}

/** Closes them. */
interface ReleaseJob {
  readonly kind: 'release';
}

export type Job = RequestsJob | MessagesJob | HoldJob | CheckHeldJob | ReleaseJob;

/** The counts of one turn. */
export interface Tally {
  /** Or messages. */
  readonly requests: number;
  /** Bytes received. */
  readonly bytes: number;
  readonly seconds: number;
  /** From the sending of a request to the last byte of its response, in µs. */
  readonly medianLatencyMicros: number;
  readonly p99LatencyMicros: number;
  /** CPU time of the process in µs, all threads; undefined where the system does not report it. */
  readonly cpuMicros: number | undefined;
}

export type JobResult = { readonly tally: Tally | undefined } | { readonly failure: string };
