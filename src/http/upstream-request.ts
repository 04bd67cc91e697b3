/** One request to an upstream, what carries it, and the receiver of its response. */
import type { BufferOwnership, TunnelEnd } from './socket.ts';
import type { ParsedResponseHead } from './response-head.ts';

/** A request as it goes out. */
export interface SerializedRequest {
  readonly method: string;
  /** The whole head. It and `body` are forgotten with the response's head: a stream may be long. */
  head: string;
  /** The part of the body that has arrived already, framed. */
  body: Buffer | undefined;
  /** No more of the body follows. */
  readonly isComplete: boolean;
  /** The protocols that the head asks for, as a list. */
  readonly upgrade: string | undefined;
}

/**
 * The receiver of one response. The order of calls: `onInterim` (0 or more), `onHead`, `onResponseBody`
 * (0 or more), `onResponseEnd`. A switch of protocols calls `onUpgrade` in place of `onHead` and what
 * follows it. `onError` may come at any point and is the last call. `onReadDone` follows each read in
 * which one of the first four was called.
 */
export interface ResponseHandler {
  /** 1xx, but not 101. */
  onInterim(head: ParsedResponseHead): void;
  onHead(head: ParsedResponseHead): void;
  /** Bytes of the body, framed as they came unless the call decodes. Whether more may come. */
  onResponseBody(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean;
  /** The bytes that follow are framed as they came again; first, `dataLeft` bytes of a chunk without its size. */
  onFramingKept?(dataLeft: number): void;
  onResponseEnd(): void;
  onReadDone(): void;
  /** The upstream has switched protocols: it is one end of a tunnel now. `rest` came behind the head. */
  onUpgrade(head: ParsedResponseHead, tunnel: UpstreamTunnel, rest: Buffer): void;
  /** The upstream takes the request's body, or more of it. */
  onUpstreamWritable(): void;
  /** The upstream takes no more of the body, though a response may still come. */
  onBodyUnwanted(): void;
  onError(error: UpstreamError): void;
  /** An exception: everything that belongs to the request ends. */
  onFault(): void;
}

/** The upstream's side of a tunnel, before it is joined. */
export interface UpstreamTunnel extends TunnelEnd {
  /** Joins it with its other end. */
  join(client: TunnelEnd): void;
}

/** What a request needs of the connection that carries it. */
export interface RequestCarrier {
  /** Whether more of the body may be written. */
  writeBody(bytes: Buffer): boolean;
  /** The body is complete. */
  bodySent(): void;
  pause(): void;
  resume(): void;
  /** Delivers chunks without their framing from now on. */
  decodeBody(): void;
  /** Delivers them with their framing again, from the next bytes on; `onFramingKept` comes first. */
  keepFraming(): void;
  /** The response is not needed any more: nothing is called after this. */
  abort(): void;
}

/** One request in flight. Its connection releases it at its end; from then on it does nothing. */
export class UpstreamRequest {
  readonly request: SerializedRequest;
  readonly sink: ResponseHandler;
  connection: RequestCarrier | undefined;
  wasSent = false;
  wasWritable = false;
  isBodySent: boolean;
  /** The response is complete and its connection is gone: the rest of the body is dropped. */
  isUpstreamGone = false;

  constructor(request: SerializedRequest, sink: ResponseHandler) {
    this.request = request;
    this.sink = sink;
    this.isBodySent = request.isComplete;
  }

  /** It is sent and responded to, so it is not sent again. */
  forgetRequest(): void {
    this.request.head = '';
    this.request.body = undefined;
  }

  /** More of the body, framed; whether even more may be written now. Not before `onUpstreamWritable`. */
  write(bytes: Buffer): boolean {
    return this.connection?.writeBody(bytes) ?? true;
  }

  endBody(): void {
    this.isBodySent = true;
    this.connection?.bodySent();
  }

  pause(): void {
    this.connection?.pause();
  }

  resume(): void {
    this.connection?.resume();
  }

  decodeBody(): void {
    this.connection?.decodeBody();
  }

  keepFraming(): void {
    this.connection?.keepFraming();
  }

  abort(): void {
    this.connection?.abort();
  }
}

/* Why an upstream gave no response, or not all of it. */

export type UpstreamErrorCode =
  | 'connect-failed'
  | 'connect-timeout'
  | 'head-timeout'
  /** The connection ended before the response was complete. */
  | 'connection-lost'
  /** The bytes are no HTTP/1.1 response, or an ambiguous one. */
  | 'malformed-response'
  /** The limit of connections to it is reached. */
  | 'too-many-connections'
  /** A peer whose sidecar does not respond to pings. */
  | 'peer-unresponsive'
  /** The sidecar is stopping. */
  | 'closed';

export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
  readonly code: UpstreamErrorCode;
  /** Nothing of the request was written, so it is safe to send it again. */
  readonly wasNotSent: boolean;
  /** The connection had served an earlier request, so the server may just have closed it as idle. */
  readonly wasReused: boolean;
  /** The upstream has sent an interim response or part of a head. */
  readonly hasReceivedBytes: boolean;

  constructor(
    code: UpstreamErrorCode,
    message: string,
    details: {
      wasNotSent?: boolean;
      wasReused?: boolean;
      hasReceivedBytes?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.wasNotSent = details.wasNotSent ?? false;
    this.wasReused = details.wasReused ?? false;
    this.hasReceivedBytes = details.hasReceivedBytes ?? false;
  }
}
