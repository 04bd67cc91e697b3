/** Turns what went wrong with an upstream into the answer that a client gets, and into a second try. */
import { refusalFor, type Refusal } from '../affinity/refuse.ts';
import type { RequestBody } from './request-body.ts';

/** RFC 9110 §9.2.2: sending one of these twice is as good as once. */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
]);

/** Whether the request could be sent a second time at all. A stream that was read from can't. */
export function isRepeatable(method: string, body: RequestBody): boolean {
  return IDEMPOTENT.has(method) && (body === null || Buffer.isBuffer(body));
}

/** The connection ended under the request: an idle one that the upstream was closing, most of all. */
export function isLostConnection(error: Error): boolean {
  const code = codeOf(error);
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}

/** 400 for what could not be sent, 504 for an upstream that is too slow, 502 for one that isn't there. */
export function answerToFailure(error: Error): Refusal {
  switch (codeOf(error)) {
    case 'UND_ERR_INVALID_ARG':
    case 'UND_ERR_NOT_SUPPORTED':
    case 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH':
      return refusalFor(400, 'malformed-request', undefined);
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return refusalFor(504, 'upstream-down', undefined);
    default:
      return refusalFor(502, 'upstream-down', undefined);
  }
}

export function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
