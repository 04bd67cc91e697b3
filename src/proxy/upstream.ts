/** The port behind which the app beside us and the sidecars of peers stand: one HTTP/1.1 server each. */
import type { Duplex, Readable } from 'node:stream';
import type { RawHeaders } from './headers.ts';

/** Connecting on loopback or over 6PN takes milliseconds; beyond this, in ms, nobody is there. */
export const CONNECT_TIMEOUT_MS = 5_000;

export interface UpstreamRequest {
  readonly method: string;
  /** In origin-form. */
  readonly path: string;
  /** `Host` and, with a body of known length, `Content-Length` included; none of one connection only. */
  readonly headers: RawHeaders;
  /** A stream is sent as long as `Content-Length` says, or else in chunks. */
  readonly body: Buffer | Readable | null;
  /** The protocol to ask for on this connection. */
  readonly upgrade: string | undefined;
}

/** What the receiver of an answer can do to the one who sends it. */
export interface AnswerSource {
  /** No more data from now on, until `resume`. Both may be called at any time, twice too. */
  pause(): void;
  resume(): void;
  /** Ends the exchange and its connection; the receiver hears `onError(reason)`, unless all is over. */
  abort(reason: Error): void;
}

/**
 * The receiver of one answer: `onSent`, any number of `onInformation`, then `onHead`, any number of
 * `onData` and `onEnd`; or `onUpgrade` in place of these; or `onError` at any point, last of all.
 * Nothing is called within the call of `send`, and nothing after the last.
 */
export interface AnswerSink {
  /** A connection was found, and the head of the request is being written to it. */
  onSent(source: AnswerSource): void;
  /** 1xx, but not 100 and 101. */
  onInformation(statusCode: number, rawHeaders: string[]): void;
  /** All headers, as they came, latin-1. */
  onHead(statusCode: number, rawHeaders: string[]): void;
  /**
   * Bytes of the body, unchunked; the receiver may keep them. If there is a `release`, it may be
   * called once nobody will read them again (a write of them has called back without an error):
   * then their memory serves the next read.
   */
  onData(chunk: Buffer, release?: () => void): void;
  onEnd(rawTrailers: RawHeaders): void;
  /** The server has agreed; the connection is the receiver's, with what came after the head in it. */
  onUpgrade(statusCode: number, rawHeaders: string[], socket: Duplex): void;
  onError(error: Error): void;
}

export interface Upstream {
  send(request: UpstreamRequest, sink: AnswerSink): void;
  /** Breaks off what is under way and closes every connection. */
  close(): Promise<void>;
}

/** `connection-lost`: the connection ended before the answer was whole. */
export type UpstreamErrorCode =
  | 'connect-failed'
  | 'connect-timeout'
  | 'head-timeout'
  | 'connection-lost'
  /** What came is no HTTP/1.1 answer, or one that could be read in two ways. */
  | 'malformed-answer'
  /** The request can't be sent as it is; the message says why. */
  | 'malformed-request'
  | 'request-body-failed'
  | 'closed';

export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
  readonly code: UpstreamErrorCode;
  /** Nothing of the request was written: sending it again can't do it twice. */
  readonly wasNotSent: boolean;
  /** The connection had served an earlier request: the server may just have closed it as idle. */
  readonly wasReused: boolean;

  constructor(
    code: UpstreamErrorCode,
    message: string,
    details: { wasNotSent?: boolean; wasReused?: boolean; cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.wasNotSent = details.wasNotSent ?? false;
    this.wasReused = details.wasReused ?? false;
  }
}
