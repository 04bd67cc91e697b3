/** Why an upstream gave no response, or not all of it. */
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
      wasHeard?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.wasNotSent = details.wasNotSent ?? false;
    this.wasReused = details.wasReused ?? false;
    this.hasReceivedBytes = details.wasHeard ?? false;
  }
}
