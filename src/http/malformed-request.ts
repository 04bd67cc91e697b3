/** Why the engine rejects a request, and with which status. The README of this folder lists the rules. */

export type MalformedStatus = 400 | 408 | 414 | 417 | 431 | 501 | 503 | 505;

/** `reason` is a constant sentence for the log and the error response. */
export interface MalformedRequest {
  readonly status: MalformedStatus;
  readonly reason: string;
}

function malformed(status: MalformedStatus, reason: string): MalformedRequest {
  return { status, reason };
}

export const INVALID_LINE = malformed(400, 'the request line is not one of HTTP/1.1');
export const UNKNOWN_VERSION = malformed(505, 'the version is neither HTTP/1.1 nor HTTP/1.0');
export const TARGET_TOO_LONG = malformed(414, 'the target is longer than the limit');
export const INVALID_TARGET = malformed(
  400,
  'the target is not in origin-form and not of this host',
);
export const NO_CONNECT = malformed(501, 'CONNECT is not supported');
export const INVALID_FIELD = malformed(400, 'a field line is malformed');
export const HEAD_TOO_LONG = malformed(431, 'the head is longer than the limit');
export const TOO_MANY_LINES = malformed(431, 'the head has more fields than the limit');
export const INVALID_HOST = malformed(400, 'Host is malformed or there are two');
export const NO_HOST = malformed(400, 'Host is missing');
export const INVALID_LENGTH = malformed(400, 'Content-Length is not one number');
export const UNKNOWN_CODING = malformed(400, 'Transfer-Encoding is not just chunked');
export const UNKNOWN_EXPECTATION = malformed(417, 'Expect asks for more than 100-continue');
export const CONFLICTING_FRAMING = malformed(
  400,
  'Transfer-Encoding beside Content-Length or in HTTP/1.0',
);
export const INVALID_CONNECTION = malformed(
  400,
  'Connection names a field that belongs to the request',
);
export const INVALID_BODY = malformed(400, 'the body is not framed as its head says');
export const HEAD_TIMEOUT = malformed(408, 'the head did not arrive in time');
export const BODY_TIMEOUT = malformed(408, 'the body stopped arriving');
export const NO_MEMORY_FOR_HEAD = malformed(
  503,
  'the head is incomplete, and there is no memory to wait for it',
);
