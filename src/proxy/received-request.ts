/** A request as it arrived: from the edge, or forwarded by a peer. */
import type { IncomingRequest } from '../http/incoming-request.ts';
import type { RequestHead } from '../protocols/heads.ts';
import {
  readEdgeFields,
  sourceOf,
  type ArrivedRequest,
  type EdgeFields,
} from '../routing/facts.ts';
import type { MachineId } from '../session.ts';
import type { ForwardNotes } from './forwarded-head.ts';

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

  /** The trace that the request belongs to, if its `traceparent` is well-formed (W3C Trace Context, section 3.2). */
  get traceId(): string | undefined {
    const { traceParent } = this.fields;
    return traceParent === undefined ? undefined : TRACE_PARENT.exec(traceParent)?.[1];
  }
}
