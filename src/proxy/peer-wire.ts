/** How one sidecar hands a request to another: a versioned path, the target in a header. */
import { headerValue, type LowerCase, type RawHeaders } from './headers.ts';

/** Where a peer takes forwarded requests. */
export const FORWARD_PATH = '/v1/forward';
/** The request-target travels in a header: it may hold a session id, and URLs end up in logs. */
const TARGET_HEADER = 'x-fly-affinity-target';
/** `Host` names the peer on this hop; the client's own travels beside it. */
const HOST_HEADER = 'x-fly-affinity-host';
/** On an answer 421: the peer's own store says that another Machine owns the session. */
export const MOVED_HEADER = 'x-fly-affinity';
export const MOVED = 'moved';

export interface ForwardedHead {
  readonly target: string;
  readonly rawHeaders: RawHeaders;
}

/** The headers of a forwarded request. A client may have sent our headers itself: its copies go. */
export function wrapHead(head: ForwardedHead, lowerCase: LowerCase): string[] {
  const wrapped: string[] = [];
  for (let i = 0; i + 1 < head.rawHeaders.length; i += 2) {
    const name = head.rawHeaders[i] ?? '';
    const lower = lowerCase(name);
    if (lower === TARGET_HEADER || lower === HOST_HEADER) continue;
    wrapped.push(lower === 'host' ? HOST_HEADER : name, head.rawHeaders[i + 1] ?? '');
  }
  wrapped.push(TARGET_HEADER, head.target);
  return wrapped;
}

/** The request that a peer has forwarded; undefined if it names no target. */
export function unwrapHead(
  rawHeaders: RawHeaders,
  lowerCase: LowerCase,
): ForwardedHead | undefined {
  const target = headerValue(rawHeaders, TARGET_HEADER, lowerCase);
  if (target === undefined) return undefined;
  const unwrapped: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = lowerCase(name);
    if (lower === TARGET_HEADER || lower === 'host') continue;
    unwrapped.push(lower === HOST_HEADER ? 'Host' : name, rawHeaders[i + 1] ?? '');
  }
  return { target, rawHeaders: unwrapped };
}

/** Whether a peer's answer says that the session has moved on. */
export function saysMoved(
  statusCode: number,
  rawHeaders: RawHeaders,
  lowerCase: LowerCase,
): boolean {
  return statusCode === 421 && headerValue(rawHeaders, MOVED_HEADER, lowerCase) === MOVED;
}
