/** How one sidecar hands a request to another: a versioned path, the target in a header. */
import type { MachineId } from '../affinity/session.ts';
import { headerValue, type RawHeaders } from './headers.ts';

/** Where a peer takes forwarded requests. */
export const FORWARD_PATH = '/v1/forward';
/** The request-target travels in a header: it may hold a session id, and URLs end up in logs. */
const TARGET_HEADER = 'x-fly-affinity-target';
/** `Host` names the peer on this hop; the client's own travels beside it. */
const HOST_HEADER = 'x-fly-affinity-host';
/** Which Machine is meant: an address may have become another's. */
const MACHINE_HEADER = 'x-fly-affinity-machine';
/** On an answer of the peer's sidecar, not of its app: why it did not take the request. */
export const REFUSED_HEADER = 'x-fly-affinity-refused';

/**
 * `moved`: another Machine owns the session, as the one that was meant says itself (421).
 * `not-meant`: another Machine has that address now, which says nothing of the one that was meant
 * (421). `stranger`: the peer does not know us yet, as its directory is read once per interval (403).
 */
export type PeerRefusal = (typeof PEER_REFUSALS)[number];
const PEER_REFUSALS = ['moved', 'not-meant', 'stranger'] as const;

export interface ForwardedHead {
  readonly target: string;
  readonly rawHeaders: RawHeaders;
}

export interface ReceivedHead extends ForwardedHead {
  /** The Machine that was meant. */
  readonly machine: string;
}

const OURS: ReadonlySet<string> = new Set([TARGET_HEADER, HOST_HEADER, MACHINE_HEADER]);

/** The headers of a forwarded request. A client may have sent our headers itself: its copies go. */
export function wrapHead(head: ForwardedHead, machine: MachineId): string[] {
  const wrapped: string[] = [];
  for (let i = 0; i + 1 < head.rawHeaders.length; i += 2) {
    const name = head.rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (OURS.has(lower)) continue;
    wrapped.push(lower === 'host' ? HOST_HEADER : name, head.rawHeaders[i + 1] ?? '');
  }
  wrapped.push(TARGET_HEADER, head.target, MACHINE_HEADER, machine);
  return wrapped;
}

/** The request that a peer has forwarded; undefined if it names no target or no Machine. */
export function unwrapHead(rawHeaders: RawHeaders): ReceivedHead | undefined {
  const target = headerValue(rawHeaders, TARGET_HEADER);
  const machine = headerValue(rawHeaders, MACHINE_HEADER);
  if (target === undefined || machine === undefined) return undefined;
  const unwrapped: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (lower === 'host' || (OURS.has(lower) && lower !== HOST_HEADER)) continue;
    unwrapped.push(lower === HOST_HEADER ? 'Host' : name, rawHeaders[i + 1] ?? '');
  }
  return { target, machine, rawHeaders: unwrapped };
}

/** Why a peer did not take a forward; undefined if its app has answered. */
export function readPeerRefusal(
  statusCode: number,
  rawHeaders: RawHeaders,
): PeerRefusal | undefined {
  if (statusCode !== 421 && statusCode !== 403) return undefined;
  const refusal = headerValue(rawHeaders, REFUSED_HEADER);
  return PEER_REFUSALS.find((known) => known === refusal);
}
