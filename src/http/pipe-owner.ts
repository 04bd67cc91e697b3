/** Who has a request piped, and what it decides of the response. */
import type { MalformedRequest } from './request-head.ts';
import type { ParsedResponseHead } from './response-head.ts';
import type { UpstreamError } from './upstream-request.ts';

/** How the head of a response goes out. */
export interface OutgoingResponse {
  /** Undefined, or the very array of the head, if the fields are passed on as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** Inspects the body on its way. */
  readonly inspector?: BodyFilter | undefined;
}

/** Inspects the beginning of a body, and may change it. */
export interface BodyFilter {
  /** Takes the next bytes, cut anywhere. Keeps no reference to them. */
  push(bytes: Uint8Array): FilteredBytes;
  /** The body has ended: what is still held goes out. */
  end(): FilteredBytes;
}

export interface FilteredBytes {
  /** What may go out, once `until` has resolved if it is set. */
  readonly out: Uint8Array | undefined;
  readonly until: Promise<void> | undefined;
  /** The rest of the body passes without inspection. */
  readonly isDone: boolean;
}

/** The caller that has the request served. It decides what depends on sessions. */
export interface PipeOwner {
  /** An interim head has come: the fields that are passed on, or undefined if the head is not. */
  onInterim(head: ParsedResponseHead): readonly string[] | undefined;
  /** The final head has come; a promise holds it back. Undefined: the owner responds itself. */
  onResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined;
  /** The head goes out. `isStream`: its length is not known. */
  onResponseStarted(statusCode: number, isStream: boolean, head: ParsedResponseHead): void;
  /** As {@link onResponse}, for a switch of protocols. */
  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined;
  onTunnel(statusCode: number): void;
  /** No head has come: the client still needs a response. */
  onFailed(error: UpstreamError): void;
  /** The head is out and the rest will not come: the client's response was cut. */
  onResponseAborted(error: UpstreamError): void;
  /** The client's body is malformed, and no response has begun. */
  onMalformedBody(why: MalformedRequest): void;
  /** The client has disconnected. */
  onClientDisconnected(): void;
  /** The response is complete, or the tunnel is closed. */
  onFinished(): void;
  /**
   * An exception, possibly of the owner itself. The connections are being closed. Called more than once if
   * there are several.
   */
  onFault(error?: unknown): void;
}

/* Whether a request may be sent twice. */

/** Idempotent methods (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  ...['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'],
]);

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

/** If nothing was written, or if the method is idempotent and the server was just closing an idle connection. */
export function isHarmlessToRepeat(error: UpstreamError, method: string): boolean {
  if (error.code !== 'connection-lost') return false;
  return error.wasNotSent || (error.wasReused && isIdempotent(method));
}
