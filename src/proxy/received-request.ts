/** A request as a listener received it, for routing, the upstreams and the log. */
import type { IncomingRequest } from '../http/incoming-request.ts';
import type { RequestHead } from '../protocols/heads.ts';
import {
  readEdgeFields,
  sourceOf,
  type ArrivedRequest,
  type EdgeFields,
} from '../routing/facts.ts';
import type { MachineId } from '../session.ts';

export interface ReceivedRequestParts {
  /** Whether `Fly-Client-IP` comes from the edge: outside Fly.io anyone may write it. */
  readonly trustsClientIp: boolean;
  readonly createRequestId: () => string;
}

export class ReceivedRequest implements ArrivedRequest {
  readonly from: 'edge' | 'peer';
  /** As the client sent it; from the edge, only the fields that routing reads. */
  readonly head: RequestHead;
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
}
