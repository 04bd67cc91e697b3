/** A request as sent to the app or to a peer: its fields, without and with those of the sidecar. */
import type { Peer } from '../fleet/directory.ts';
import { withCut } from '../http/head-text.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import {
  formatRequest,
  type ParsedRequestHead,
  type RequestChanges,
  isHostValue,
  isOriginForm,
} from '../http/request-head.ts';
import type { SerializedRequest } from '../http/upstream-request.ts';
import type { Discoverer } from '../protocols/discoveries.ts';
import { headerValue, withHeader, type RequestHead, isHeader } from '../protocols/heads.ts';
import type { RemoveOwnerHints } from '../protocols/owner-hint.ts';
import { type MachineId, parseMachineId } from '../session.ts';
import type { Routed } from '../routing/route.ts';
import {
  readEdgeFields,
  sourceOf,
  type ArrivedRequest,
  type EdgeFields,
} from '../routing/facts.ts';

export interface AttemptRequestParts {
  readonly self: MachineId;
  readonly discoverer: Pick<Discoverer, 'mayRevealInBody'>;
  readonly removeHints: RemoveOwnerHints;
  /** Removes the affinity cookie from a request's fields; returns the same array if it has none. */
  readonly removeCookie: (rawHeaders: readonly string[]) => readonly string[];
  /** `host:port` of the app, for a request of HTTP/1.0 that names none (RFC 9110 §7.2). */
  readonly upstreamHost: string;
  readonly via: Via;
}

/** The request's own fields without some, or other fields. */
type SentFields = Pick<RequestChanges, 'target' | 'cuts'> &
  Partial<Pick<RequestChanges, 'rawHeaders'>>;

/** HOT PATH. */
export function requestToApp(
  request: ReceivedRequest,
  routed: Routed,
  body: Buffer | undefined,
  parts: AttemptRequestParts,
): SerializedRequest {
  const fields = fieldsForApp(request, routed, parts);
  const { rawHeaders = [] } = fields;
  const { host, authority } = request.incoming.head;
  const named = request.from === 'edge' ? host : headerValue(rawHeaders, 'host');
  const hostLine = named === undefined ? `Host: ${authority ?? parts.upstreamHost}\r\n` : '';
  return outgoing(request.incoming, fields, hostLine, body, parts.via);
}

/** Includes the hints, as the peer routes the request too. */
export function requestToPeer(
  request: ReceivedRequest,
  peer: Peer,
  { decision }: Routed,
  body: Buffer | undefined,
  parts: AttemptRequestParts,
): SerializedRequest {
  const placedBy = decision.why === 'placed' ? parts.self : undefined;
  const host = `${peer.host}:${peer.port}`;
  const rawHeaders = wrapHead(wholeHead(request), peer.machine, host, placedBy);
  const fields = { target: FORWARD_PATH, rawHeaders };
  return outgoing(request.incoming, fields, '', body, parts.via);
}

function outgoing(
  incoming: IncomingRequest,
  { target, rawHeaders, cuts }: SentFields,
  hostLine: string,
  body: Buffer | undefined,
  via: Via,
): SerializedRequest {
  const { head } = incoming;
  return {
    method: head.method,
    head: formatRequest(head, {
      target,
      rawHeaders,
      cuts,
      added: hostLine + forwardedLines(incoming) + via.lineFor(head.minorVersion),
      asksForUpgrade: head.upgrade !== undefined,
    }),
    body,
    isComplete: incoming.isBodyComplete,
    upgrade: head.upgrade,
  };
}

/** Without the hints and cookies that the sidecar gave the client. */
function fieldsForApp(
  request: ReceivedRequest,
  { ids, wholeId }: Routed,
  { removeHints, removeCookie, discoverer }: AttemptRequestParts,
): SentFields {
  const { head, from, incoming } = request;
  const clean = removeHints(head, wholeId);
  const isToBePlain = discoverer.mayRevealInBody(head, ids);
  if (from === 'edge' && !isToBePlain && removeCookie(head.rawHeaders) === head.rawHeaders) {
    const { target } = clean;
    if (clean.rawHeaders === head.rawHeaders) return { target };
    const cuts = cutsOf(incoming.head, clean.rawHeaders);
    if (cuts) return { target, cuts };
  }
  const { target, rawHeaders } = removeHints(wholeHead(request), wholeId);
  const cleaned = removeCookie(rawHeaders);
  return {
    target,
    rawHeaders: isToBePlain ? withHeader(cleaned, 'accept-encoding', 'identity') : cleaned,
  };
}

/** With all its fields. */
function wholeHead({ from, head, incoming }: ReceivedRequest): RequestHead {
  return from === 'peer' ? head : { ...head, rawHeaders: incoming.head.rawHeaders };
}

/** The cuts that turn the selected fields into these; undefined if more than their ends must be removed. */
function cutsOf(
  { cuts, selected, selectedAt }: ParsedRequestHead,
  cleaned: readonly string[],
): readonly number[] | undefined {
  let all = cuts;
  for (let i = 0; i < selectedAt.length; i += 1) {
    const value = selected[2 * i + 1] ?? '';
    const kept = cleaned[2 * i + 1] ?? '';
    if (kept === value) continue;
    if (!value.startsWith(kept)) return undefined;
    const at = selectedAt[i] ?? 0;
    all = withCut(all, at + kept.length, at + value.length);
  }
  return all;
}

/** `x-forwarded-for` and `-proto` of the edge stay; they are added only if they are missing. */
function forwardedLines({ head, remoteAddress }: IncomingRequest): string {
  let lines = '';
  if (!head.hasForwardedFor) lines += `X-Forwarded-For: ${plainAddress(remoteAddress)}\r\n`;
  if (!head.hasForwardedProto) lines += 'X-Forwarded-Proto: http\r\n';
  return lines;
}

const IPV4_MAPPED = '::ffff:';

/** An IPv4 address that a socket for both families shows in IPv6 form. */
function plainAddress(address: string): string {
  const isMapped = address.startsWith(IPV4_MAPPED) && address.includes('.');
  return isMapped ? address.slice(IPV4_MAPPED.length) : address;
}

/**
 * `Via` (RFC 9110 §7.6.3): records that a request has passed this sidecar, and detects the loops of a
 * wrong `UPSTREAM_URL`.
 */
export interface Via {
  /** The field line that is added to a request of that minor version, with its line end. */
  lineFor(minorVersion: 0 | 1): string;
  /** Whether a request has passed this sidecar more often than any valid configuration allows. */
  isLoop(values: readonly string[]): boolean;
}

/** An app that is a proxy may send a request through its own public address, and pass `Via` on. */
const MAX_PASSES = 3;

export function createVia(machine: MachineId): Via {
  // The comment sets this sidecar off from that of another Machine.
  const own = `fly-affinity (${machine})`;
  const lines = [`Via: 1.0 ${own}\r\n`, `Via: 1.1 ${own}\r\n`] as const;
  const countIn = (value: string): number => value.split(own).length - 1;
  return {
    lineFor: (minorVersion) => lines[minorVersion],
    isLoop: (values) => {
      if (values.length === 0) return false;
      return values.reduce((count, value) => count + countIn(value), 0) >= MAX_PASSES;
    },
  };
}

/* How one sidecar forwards a request to another: a versioned path, the client's target in a field. */

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
export interface ForwardedHead {
  readonly target: string;
  readonly rawHeaders: readonly string[];
}

export interface ReceivedHead extends ForwardedHead {
  /** The target Machine. */
  readonly machine: string;
  /** Set if this Machine placed a new session on the target. */
  readonly placedBy: MachineId | undefined;
}

const OURS: ReadonlySet<string> = new Set([
  ...[TARGET_HEADER, HOST_HEADER, MACHINE_HEADER, PLACED_HEADER],
]);

/** The fields of a forwarded request. Fields of ours that the client sent are dropped. */
export function wrapHead(
  head: ForwardedHead,
  machine: MachineId,
  host: string,
  placedBy?: MachineId,
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
  const placedBy = parseMachineId(headerValue(rawHeaders, PLACED_HEADER) ?? '');
  return { target, machine, placedBy, rawHeaders: unwrapped };
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

export interface ReceivedRequestParts {
  /** Whether `Fly-Client-IP` comes from the edge: outside Fly.io anyone may write it. */
  readonly trustsClientIp: boolean;
  readonly createRequestId: () => string;
}

/** Later versions may append fields. An id of zeros only is invalid. */
const TRACE_PARENT =
  /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:-|$)/;

export class ReceivedRequest implements ArrivedRequest {
  readonly from: 'edge' | 'peer';
  /** As the client sent it; from the edge, only the fields that routing reads. */
  head: RequestHead;
  readonly fields: EdgeFields;
  readonly placedBy: MachineId | undefined;
  readonly incoming: IncomingRequest;
  readonly #parts: ReceivedRequestParts;
  #generatedId: string | undefined;

  constructor(
    incoming: IncomingRequest,
    from: 'edge' | 'peer',
    head: RequestHead,
    parts: ReceivedRequestParts,
    placedBy?: MachineId,
  ) {
    this.incoming = incoming;
    this.from = from;
    this.head = head;
    this.fields = readEdgeFields(head.rawHeaders);
    this.placedBy = placedBy;
    this.#parts = parts;
  }

  get bodyLength(): number | undefined {
    const { isChunked, contentLength } = this.incoming.head;
    return isChunked ? undefined : (contentLength ?? 0);
  }

  /** The client's address if the edge gives it, else its connection. */
  get source(): string {
    const { clientIp } = this.fields;
    const isKnown = this.#parts.trustsClientIp && clientIp !== undefined;
    return isKnown ? sourceOf(clientIp) : this.incoming.connectionName;
  }

  /** The id that the edge assigned, else one of our own. */
  get requestId(): string {
    return this.fields.requestId ?? (this.#generatedId ??= this.#parts.createRequestId());
  }

  /** The trace that the request belongs to, if its `traceparent` is well-formed (W3C Trace Context, section 3.2). */
  get traceId(): string | undefined {
    const { traceParent } = this.fields;
    return traceParent === undefined ? undefined : TRACE_PARENT.exec(traceParent)?.[1];
  }
}
