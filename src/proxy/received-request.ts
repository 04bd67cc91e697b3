/** A request as it arrived: from the edge, or forwarded by a peer. */
import { parseReplaySource } from '../fly.ts';
import { isIP } from 'node:net';
import type { IncomingRequest } from '../http/incoming-request.ts';
import { parseTraceParent, type RequestSpan, type Tracing } from '../observability/tracing.ts';
import { headerValue, type RequestHead } from '../protocols/heads.ts';
import {
  readEdgeFields,
  sourceOf,
  type ArrivedRequest,
  type EdgeFields,
} from '../routing/facts.ts';
import { spanOfReplay } from '../routing/replay-state.ts';
import type { MachineId } from '../session.ts';
import type { ForwardNotes } from './forwarded-head.ts';

export interface ReceivedRequestParts {
  /** Whether `Fly-Client-IP` comes from the edge: outside Fly.io anyone may write it. */
  readonly trustsClientIp: boolean;
  readonly createRequestId: () => string;
  /** Undefined: there are no traces. */
  readonly tracing: Pick<Tracing, 'begin'> | undefined;
}

/** Names, in lower case, of fields that only spans have, or replace. */
export const TRACED_NAMES: readonly string[] = ['x-forwarded-proto', 'user-agent', 'tracestate'];

export class ReceivedRequest implements ArrivedRequest {
  readonly from: 'edge' | 'peer';
  /** As the client sent it; from the edge, only the fields that routing reads. */
  head: RequestHead;
  readonly fields: EdgeFields;
  readonly placedBy: MachineId | undefined;
  readonly incoming: IncomingRequest;
  /** Undefined: there are no traces. */
  readonly span: RequestSpan | undefined;
  readonly #parts: ReceivedRequestParts;
  /** Generated here, or by the peer that has forwarded the request. */
  #ownId: string | undefined;

  constructor(
    incoming: IncomingRequest,
    from: 'edge' | 'peer',
    head: RequestHead,
    parts: ReceivedRequestParts,
    notes?: ForwardNotes,
  ) {
    this.incoming = incoming;
    this.from = from;
    this.head = head;
    this.fields = readEdgeFields(head.rawHeaders);
    this.placedBy = notes?.placedBy;
    this.#ownId = notes?.requestId;
    this.#parts = parts;
    this.span = parts.tracing && this.#beginSpan(parts.tracing);
  }

  get hasBody(): boolean {
    return this.incoming.hasBody;
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
    return this.fields.requestId ?? (this.#ownId ??= this.#parts.createRequestId());
  }

  /** The id for the next sidecar; undefined if that of the edge is among the fields. */
  get idToForward(): string | undefined {
    return this.fields.requestId === undefined ? this.requestId : undefined;
  }

  /** The trace that the request belongs to: that of its span, or else of a well-formed `traceparent`. */
  get traceId(): string | undefined {
    if (this.span) return this.span.traceId;
    const { traceParent } = this.fields;
    return traceParent === undefined ? undefined : parseTraceParent(traceParent)?.traceId;
  }

  #beginSpan(tracing: Pick<Tracing, 'begin'>): RequestSpan {
    const { head, from, fields, incoming } = this;
    const { rawHeaders } = head;
    return tracing.begin({
      method: head.method,
      traceParent: fields.traceParent,
      replayedBy: from === 'edge' ? spanInSource(fields.replaySource) : undefined,
      scheme: SCHEME.exec(headerValue(rawHeaders, 'x-forwarded-proto') ?? '')?.[0].toLowerCase(),
      host: head.host ?? headerValue(rawHeaders, 'host'),
      clientAddress: this.#clientAddress,
      minorVersion: incoming.head.minorVersion,
      userAgent: headerValue(rawHeaders, 'user-agent'),
    });
  }

  get #clientAddress(): string {
    const { clientIp } = this.fields;
    const isKnown = this.#parts.trustsClientIp && clientIp !== undefined && isIP(clientIp) !== 0;
    return isKnown ? clientIp : plainAddress(this.incoming.remoteAddress);
  }
}

/** What a proxy in front of the sidecar may say. */
const SCHEME = /^(?:https?|wss?)$/i;

/** A forward has a `traceparent` of the sidecar that forwards it, which is nearer. */
function spanInSource(replaySource: string | undefined): string | undefined {
  return replaySource === undefined
    ? undefined
    : spanOfReplay(parseReplaySource(replaySource).state);
}

const IPV4_MAPPED = '::ffff:';

/** An IPv4 address that a socket for both families shows in IPv6 form. */
export function plainAddress(address: string): string {
  const isMapped = address.startsWith(IPV4_MAPPED) && address.includes('.');
  return isMapped ? address.slice(IPV4_MAPPED.length) : address;
}
