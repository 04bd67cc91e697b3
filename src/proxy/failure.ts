/** Turns what went wrong with an upstream into the answer that a client gets, and into a second try. */
import { refusalFor, type Refusal } from '../affinity/refuse.ts';
import type { RequestBody } from './request-body.ts';
import { UpstreamError, type UpstreamErrorCode } from './upstream.ts';

/** RFC 9110 §9.2.2: sending one of these twice is as good as once. */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
]);

/** Whether there is still something to send a second time: a stream that was read from is gone. */
export function isRepeatable(body: RequestBody): boolean {
  return body === null || Buffer.isBuffer(body);
}

/**
 * Whether a request that failed before its answer is sent again, once: nothing of it was written,
 * or sending it twice is as good as once and its connection was an idle one that was just closing.
 */
export function isWorthAnotherTry(error: Error, method: string): boolean {
  if (!(error instanceof UpstreamError) || error.code !== 'connection-lost') return false;
  return error.wasNotSent || (error.wasReused && IDEMPOTENT.has(method));
}

/** 400 for what could not be sent, 504 for an upstream that is too slow, 502 for one that isn't there. */
export function answerToFailure(error: Error): Refusal {
  switch (codeOf(error)) {
    case 'malformed-request':
    case 'request-body-failed':
      return refusalFor(400, 'malformed-request', undefined);
    case 'head-timeout':
    case 'connect-timeout':
      return refusalFor(504, 'upstream-down', undefined);
    default:
      return refusalFor(502, 'upstream-down', undefined);
  }
}

/** Nobody listens: nothing of the request has reached the app. */
export function wasRefused(error: Error): boolean {
  if (codeOf(error) !== 'connect-failed') return false;
  const { cause } = error as { readonly cause?: NodeJS.ErrnoException };
  return cause?.code === 'ECONNREFUSED';
}

export function codeOf(error: Error): UpstreamErrorCode | undefined {
  return error instanceof UpstreamError ? error.code : undefined;
}
