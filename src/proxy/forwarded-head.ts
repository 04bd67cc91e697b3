/** How one sidecar forwards a request to another: a versioned path, the client's target in a field. */
import { isHostValue, isOriginForm } from '../http/request-head.ts';
import { headerValue, isHeader } from '../protocols/heads.ts';
import { type MachineId, parseMachineId } from '../session.ts';

/** The path for forwarded requests. */
export const FORWARD_PATH = '/v1/forward';
/** The request-target travels in a field: it may hold a session id, and URLs end up in logs. */
const TARGET_HEADER = 'x-fly-affinity-target';
/** The client's `Host`: on this hop, `Host` names the peer. */
const HOST_HEADER = 'x-fly-affinity-host';
/** The target Machine: its address may now belong to another one. */
const MACHINE_HEADER = 'x-fly-affinity-machine';
/** Set if the target is the place of a new session: names the Machine that placed it. */
const PLACED_HEADER = 'x-fly-affinity-placed';
/** The request id, if the sender generated it: outside Fly.io no edge gives one. */
const REQUEST_ID_HEADER = 'x-fly-affinity-request-id';
/** In a response of the peer's sidecar, never of its app: why it rejected the request. */
export const REFUSED_HEADER = 'x-fly-affinity-refused';

/**
 * `moved`: the target reports that another Machine owns the session (421). `not-meant`: another Machine
 * has that address now, which proves nothing about the target (421). `stranger`: the peer does not list
 * this Machine yet, as it reads its directory once per interval (403).
 */
export type PeerRefusal = (typeof PEER_REFUSALS)[number];
const PEER_REFUSALS = ['moved', 'not-meant', 'stranger'] as const;

/** A request as the client sent it. */
interface ForwardedHead {
  readonly target: string;
  readonly rawHeaders: readonly string[];
}

/** What a sidecar tells the next one about the request. */
export interface ForwardNotes {
  /** Set if this Machine placed a new session on the target. */
  readonly placedBy: MachineId | undefined;
  /** Set if this Machine generated it. */
  readonly requestId: string | undefined;
}

export interface ReceivedHead extends ForwardedHead {
  /** The target Machine. */
  readonly machine: string;
  readonly notes: ForwardNotes;
}

const NO_NOTES: ForwardNotes = { placedBy: undefined, requestId: undefined };

const OURS: ReadonlySet<string> = new Set([
  ...[TARGET_HEADER, HOST_HEADER, MACHINE_HEADER, PLACED_HEADER, REQUEST_ID_HEADER],
]);

/** The fields of a forwarded request. Fields of ours that the client sent are dropped. */
export function wrapHead(
  head: ForwardedHead,
  machine: MachineId,
  host: string,
  { placedBy, requestId }: ForwardNotes = NO_NOTES,
): string[] {
  const wrapped: string[] = ['Host', host];
  for (let i = 0; i + 1 < head.rawHeaders.length; i += 2) {
    const name = head.rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (OURS.has(lower)) continue;
    wrapped.push(lower === 'host' ? HOST_HEADER : name, head.rawHeaders[i + 1] ?? '');
  }
  wrapped.push(TARGET_HEADER, head.target, MACHINE_HEADER, machine);
  if (placedBy !== undefined) wrapped.push(PLACED_HEADER, placedBy);
  if (requestId !== undefined) wrapped.push(REQUEST_ID_HEADER, requestId);
  return wrapped;
}

/** The request that a peer has forwarded; undefined if it names no Machine, or no valid target and host. */
export function unwrapHead(rawHeaders: readonly string[]): ReceivedHead | undefined {
  const target = headerValue(rawHeaders, TARGET_HEADER);
  const machine = headerValue(rawHeaders, MACHINE_HEADER);
  const host = headerValue(rawHeaders, HOST_HEADER);
  if (target === undefined || machine === undefined || !isOriginForm(target)) return undefined;
  if (host !== undefined && !isHostValue(host)) return undefined;
  const unwrapped: string[] = [];
  let hostCount = 0;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (lower === 'host' || (OURS.has(lower) && lower !== HOST_HEADER)) continue;
    if (lower === HOST_HEADER) hostCount += 1;
    unwrapped.push(lower === HOST_HEADER ? 'Host' : name, rawHeaders[i + 1] ?? '');
  }
  // Two values would be ambiguous (RFC 9112 §3.2).
  if (hostCount > 1) return undefined;
  return { target, machine, notes: notesIn(rawHeaders), rawHeaders: unwrapped };
}

/** It ends up in the log. */
const REQUEST_ID = /^[\w.:-]{1,128}$/;

function notesIn(rawHeaders: readonly string[]): ForwardNotes {
  const requestId = headerValue(rawHeaders, REQUEST_ID_HEADER) ?? '';
  return {
    placedBy: parseMachineId(headerValue(rawHeaders, PLACED_HEADER) ?? ''),
    requestId: REQUEST_ID.test(requestId) ? requestId : undefined,
  };
}

/** Why a peer rejected a forward; undefined if its app has responded. */
export function readPeerRefusal(
  statusCode: number,
  rawHeaders: readonly string[],
): PeerRefusal | undefined {
  if (statusCode !== 421 && statusCode !== 403) return undefined;
  const refusal = headerValue(rawHeaders, REFUSED_HEADER);
  return PEER_REFUSALS.find((known) => known === refusal);
}

/** Detects the field in a response of an app: only a sidecar may state why a forward was rejected. */
export function hasRefusal(rawHeaders: readonly string[]): boolean {
  return rawHeaders.some((name, i) => i % 2 === 0 && isHeader(name, REFUSED_HEADER));
}
