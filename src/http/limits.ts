/**
 * The limits of the engine, one set for both sides: what a client, an app or a peer may send, and how
 * long it may be silent. Whatever is over a limit ends one request or one connection.
 */
export interface Limits {
  /** Of the head of a request, and of a trailer section, in bytes. */
  readonly headBytes: number;
  /** Of the head of a response, in bytes. */
  readonly responseHeadBytes: number;
  /** Field lines of a head. Node.js 22.19 silently drops what is beyond about 1,000 of them. */
  readonly fields: number;
  /** Of the request-target, in bytes. */
  readonly targetBytes: number;
  /** Connections that a listener takes; one more gets 503. */
  readonly connections: number;
  /** Connections to one upstream; a request that needs one more gets 503. */
  readonly upstreamConnections: number;
  /** What one connection may hold of a client's bytes that nobody takes yet, in bytes. */
  readonly connectionBufferBytes: number;
  /** What all connections together may hold; beyond it new requests get 503. In bytes. */
  readonly totalBufferBytes: number;
  /** From the first byte of a head, or from the opening of a connection, to the end of the head, in ms. */
  readonly headTimeoutMs: number;
  /** How long a connection waits for its next request, in ms. The edge pools its connections. */
  readonly idleTimeoutMs: number;
  /** How long a request's body may pause, and a client take no byte of its response, in ms; 0: for ever. */
  readonly stallTimeoutMs: number;
}

const KB = 1_024;
const MB = 1_024 * KB;

export const DEFAULT_LIMITS: Limits = {
  headBytes: 32 * KB,
  responseHeadBytes: 64 * KB,
  fields: 500,
  targetBytes: 16 * KB,
  connections: 10_000,
  upstreamConnections: 10_000,
  connectionBufferBytes: 64 * KB,
  totalBufferBytes: 64 * MB,
  headTimeoutMs: 20_000,
  idleTimeoutMs: 620_000,
  stallTimeoutMs: 300_000,
};

/** What a sidecar adds to a head that it forwards: its own fields, in bytes and in lines. */
export const FORWARD_BYTES = 4 * KB;
export const FORWARD_FIELDS = 12;

/** Interim responses before a final one; an upstream that sends more is broken. */
export const MAX_INTERIM_RESPONSES = 3_600;

/** How long a connection is kept in order to let a client read its last response, in ms and in bytes. */
export const LINGER_MS = 3_000;
export const LINGER_BYTES = 8 * MB;

/** The rest of a body that is read and dropped in order to keep the connection, in bytes. */
export const DRAINED_BODY_BYTES = 8 * MB;

/**
 * How long after a client has ended its side, in ms, it is found out whether it still reads: a stream is
 * ended, and a client that waits for its response's head is sent a 102 (Processing), at which the kernel
 * of a client that has gone resets the connection.
 */
export const HALF_CLOSE_MS = 1_000;
/** How often a 102 is sent, in such intervals: a reset shows only at the next write. */
export const HALF_CLOSE_PROBES = 4;
/** How long one is waited for that can't be asked so: of HTTP/1.0, or for a switch of protocols. In ms. */
export const HALF_CLOSE_OLD_MS = 4_500;

/** How long a tunnel of which one side has ended may be silent, in ms. */
export const HALF_CLOSED_TUNNEL_MS = 30_000;
