/** What the load generator is told to do, and what it answers. */

/** Keep-alive connections that send one request after the other, each as soon as the last is answered. */
export interface RequestsJob {
  readonly kind: 'requests';
  readonly port: number;
  readonly connections: number;
  readonly warmUpMs: number;
  readonly turnMs: number;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly bodyBytes: number;
  /** Dealt out to the connections like cards; each connection goes round its own. */
  readonly sessionIds: readonly string[];
  /** What the head of every answer starts with, and what is in that of the first. */
  readonly expects: { readonly statusLine: string; readonly text: string };
  /** Process whose CPU time is taken. */
  readonly pid: number;
}

/** Opens one event stream per session, all at once, and keeps them. */
export interface StreamsJob {
  readonly kind: 'open-streams';
  readonly port: number;
  readonly path: string;
  readonly sessionIds: readonly string[];
}

export interface CloseStreamsJob {
  readonly kind: 'close-streams';
}

export type Job = RequestsJob | StreamsJob | CloseStreamsJob;

/** What was counted in one turn. */
export interface Tally {
  readonly requests: number;
  readonly bytes: number;
  readonly seconds: number;
  /** From the sending of a request to the last byte of its answer, in µs. */
  readonly medianLatencyMicros: number;
  /** CPU time of the process in µs, all threads; undefined where the system does not tell. */
  readonly cpuMicros: number | undefined;
}

export type JobAnswer = { readonly tally: Tally | undefined } | { readonly failure: string };
