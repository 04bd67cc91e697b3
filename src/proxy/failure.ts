/** Which response a client gets when its upstream gave none. */
import { errorResponseFor, type ErrorResponse } from '../protocols/error-responses.ts';
import { UpstreamError } from '../http/upstream-error.ts';

/**
 * 504 for an upstream that is too slow, 503 for one that can take no more, 502 for one that isn't
 * there or broke off. `mayRepeat`: the client may send the request again without doing it twice; only
 * then is it told when (RFC 9110 §10.2.3).
 */
export function refusalOfFailure(error: UpstreamError, mayRepeat: boolean): ErrorResponse {
  switch (error.code) {
    case 'head-timeout':
    case 'connect-timeout':
    case 'peer-unresponsive':
      return errorResponseFor(504, 'upstream-down', undefined, mayRepeat);
    case 'too-many-connections':
      return errorResponseFor(503, 'overloaded', undefined, mayRepeat);
    default:
      return errorResponseFor(502, 'upstream-down', undefined, mayRepeat);
  }
}

/** Nobody listens: nothing of the request has reached the app. */
export function wasRefused(error: UpstreamError): boolean {
  if (error.code !== 'connect-failed') return false;
  const { cause } = error as { readonly cause?: NodeJS.ErrnoException };
  return cause?.code === 'ECONNREFUSED';
}
