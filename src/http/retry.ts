/** Whether a request may be sent twice. */
import type { UpstreamError } from './upstream-error.ts';

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
