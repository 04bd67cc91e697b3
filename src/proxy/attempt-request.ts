/** A request as sent to the app or to a peer: its fields, without and with those of the sidecar. */
import type { Peer } from '../fleet/directory.ts';
import { withCut } from '../http/head-text.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import {
  formatRequest,
  type ParsedRequestHead,
  type RequestChanges,
} from '../http/request-head.ts';
import type { SerializedRequest } from '../http/upstream-request.ts';
import type { Discoverer } from '../protocols/discoveries.ts';
import { formatTraceParent, parseTraceParent } from '../observability/tracing.ts';
import { headerValue, withHeader, withoutHeader, type RequestHead } from '../protocols/heads.ts';
import type { RemoveOwnerHints } from '../protocols/owner-hint.ts';
import type { MachineId } from '../session.ts';
import type { Routed } from '../routing/route.ts';
import { FORWARD_PATH, wrapHead } from './forwarded-head.ts';
import { plainAddress, type ReceivedRequest } from './received-request.ts';

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
  return outgoing(request, fields, hostLine, body, parts.via);
}

/** Includes the hints, as the peer routes the request too. */
export function requestToPeer(
  request: ReceivedRequest,
  peer: Peer,
  { decision }: Routed,
  body: Buffer | undefined,
  parts: AttemptRequestParts,
): SerializedRequest {
  const host = `${peer.host}:${peer.port}`;
  const rawHeaders = wrapHead(wholeHead(request), peer.machine, host, {
    placedBy: decision.why === 'placed' ? parts.self : undefined,
    requestId: request.idToForward,
  });
  const fields = { target: FORWARD_PATH, rawHeaders };
  return outgoing(request, fields, '', body, parts.via);
}

function outgoing(
  { incoming, span, fields: { traceParent } }: ReceivedRequest,
  fields: SentFields,
  hostLine: string,
  body: Buffer | undefined,
  via: Via,
): SerializedRequest {
  const { head } = incoming;
  const { target, rawHeaders, cuts } = span
    ? withoutFields(head, fields, replacedBySpan(traceParent))
    : fields;
  const traceLine = span ? `${TRACE_PARENT}: ${formatTraceParent(span)}\r\n` : '';
  return {
    method: head.method,
    head: formatRequest(head, {
      target,
      rawHeaders,
      cuts,
      added: hostLine + traceLine + forwardedLines(incoming) + via.lineFor(head.minorVersion),
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

const TRACE_PARENT = 'traceparent';

/** `tracestate` belongs to a valid `traceparent` (W3C Trace Context, "Processing Model"). */
function replacedBySpan(traceParent: string | undefined): readonly string[] {
  const isValid = traceParent !== undefined && parseTraceParent(traceParent) !== undefined;
  return isValid ? [TRACE_PARENT] : [TRACE_PARENT, 'tracestate'];
}

function withoutFields(
  head: ParsedRequestHead,
  fields: SentFields,
  names: readonly string[],
): SentFields {
  const { rawHeaders, cuts = head.cuts } = fields;
  if (rawHeaders) return { ...fields, rawHeaders: names.reduce(withoutHeader, rawHeaders) };
  const { text, selected, selectedAt } = head;
  let all = cuts;
  for (let i = 0; i < selectedAt.length; i += 1) {
    if (!names.includes(selected[2 * i] ?? '')) continue;
    const valueAt = selectedAt[i] ?? 0;
    all = withCut(all, text.lastIndexOf('\n', valueAt) + 1, text.indexOf('\n', valueAt) + 1);
  }
  return { ...fields, cuts: all };
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

/**
 * `Via` (RFC 9110 §7.6.3): records that a request has passed this sidecar, and detects the loops of a
 * wrong `UPSTREAM_URL`.
 */
interface Via {
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
