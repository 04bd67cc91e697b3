/**
 * Every limit of the engine, for both sides: what a client, an app or a peer may send, and how long it may
 * send nothing. A message over a limit ends one request or one connection, and nothing else.
 */

/** The limits that settings or tests change. */
export interface Limits {
  /** Head of a request, and trailer section, in bytes. */
  readonly headBytes: number;
  /** Head of a response, in bytes. */
  readonly responseHeadBytes: number;
  /** Field lines of a head. Node.js 22.19 silently drops those beyond about 1,000. */
  readonly fields: number;
  /** Request-target, in bytes. */
  readonly targetBytes: number;
  /** Connections that a listener accepts; one more gets 503. */
  readonly connections: number;
  /** Connections to one upstream; a request that needs one more gets 503. */
  readonly upstreamConnections: number;
  /** How much unprocessed input one connection holds for a client, in bytes. */
  readonly connectionBufferBytes: number;
  /** How much all connections together hold, in bytes; beyond it new requests get 503. */
  readonly totalBufferBytes: number;
  /** From the first byte of a head, or from the opening of a connection, to the end of the head, in ms. */
  readonly headTimeoutMs: number;
  /** How long a connection waits for its next request, in ms. The edge pools its connections. */
  readonly idleTimeoutMs: number;
  /** How long a request's body may pause, and a client may read no byte of its response, in ms; 0: no limit. */
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

// Heads

export const MAX_METHOD_BYTES = 64;
/** Empty lines before a request line that are skipped (RFC 9112 §2.2). */
export const MAX_EMPTY_LINES = 2;
/** Every number of so many digits is exact in JavaScript. */
export const MAX_CONTENT_LENGTH_DIGITS = 15;
/** Interim responses before a final one; an upstream that sends more is broken. */
export const MAX_INTERIM_RESPONSES = 3_600;

// Chunks

export const MAX_CHUNK_SIZE_DIGITS = 16;
export const MAX_CHUNK_BYTES = 2 ** 48;
/**
 * Extensions of one chunk. They are hardly ever used, and without a limit a sender could send them for
 * ever.
 */
export const MAX_CHUNK_EXTENSION_BYTES = 4 * KB;

// Client connections

/** How long a connection stays open for the client to read its last response, in ms and in bytes. */
export const LINGER_MS = 3_000;
export const LINGER_BYTES = 8 * MB;

/** How much of a request body is read and dropped to keep the connection, in bytes. */
export const DRAINED_BODY_BYTES = 8 * MB;

/**
 * After a client has ended its side, the engine checks at this interval, in ms, whether it still reads: a
 * stream is ended, and a client that waits for its response's head gets a 102 (Processing). If the client
 * is gone, its kernel resets the connection.
 */
export const HALF_CLOSE_MS = 1_000;
/** How many times a 102 is sent: a reset shows only at the next write. */
export const HALF_CLOSE_PROBES = 4;
/** How long to wait for a client that can't get a 102 (HTTP/1.0, a switch of protocols), in ms. */
export const HALF_CLOSE_OLD_MS = 4_500;

/** How long a tunnel with one side ended may carry no bytes, in ms. */
export const HALF_CLOSED_TUNNEL_MS = 30_000;

// Upstream connections

/** How long to wait for a response after a failed write, in ms: the app may have sent it before it closed. */
export const FAILED_WRITE_MS = 1_000;
/** How long unwritten bytes may take to leave once a response is complete or a tunnel is closed, in ms. */
export const UNWRITTEN_REST_MS = 30_000;
