/** Why an upstream gave no response, or not all of it. */
export type UpstreamErrorCode =
  | 'connect-failed'
  | 'connect-timeout'
  | 'head-timeout'
  /** The connection ended before the response was complete. */
  | 'connection-lost'
  /** What came is no HTTP/1.1 response, or one that could be read in two ways. */
  | 'malformed-response'
  /** There are as many connections to it as there may be. */
  | 'too-many-connections'
  /** A peer whose sidecar does not answer either. */
  | 'peer-unresponsive'
  /** The sidecar is stopping. */
  | 'closed';

export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
  readonly code: UpstreamErrorCode;
  /** Nothing of the request was written: sending it again can't do it twice. */
  readonly wasNotSent: boolean;
  /** The connection had served an earlier request: the server may just have closed it as idle. */
  readonly wasReused: boolean;
  /** Something has come back for the request: an interim response, or part of a head. */
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
