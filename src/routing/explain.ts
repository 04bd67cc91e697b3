/**
 * Explains what routing would do with a request, and why. It takes and traces the steps of routing, but
 * writes, claims and sends nothing. It does query other Machines, as the decision depends on them.
 */
import { formatFields } from '../http/head-text.ts';
import { DEFAULT_LIMITS } from '../http/limits.ts';
import { RequestParser } from '../http/request-parser.ts';
import { isReadableBody } from '../protocols/request-ids.ts';
import { headerValue, type RequestHead } from '../protocols/heads.ts';
import type { MachineId } from '../session.ts';
import { readEdgeFields, type ArrivedRequest } from './facts.ts';
import type { Action } from './respond.ts';
import type { Routed, Router } from './route.ts';
import type { Step, Tracer } from './trace.ts';

interface ExplainedRequest extends Omit<RequestHead, 'body'> {
  readonly from: 'edge' | 'peer';
  /** Text; undefined: the body is not known, and none if no field has its length. */
  readonly body?: string | undefined;
}

export interface Explanation {
  readonly machine: MachineId;
  readonly steps: readonly Step[];
  readonly response:
    | { readonly by: 'app' }
    | { readonly by: 'peer'; readonly machine: MachineId }
    | {
        readonly by: 'sidecar';
        readonly status: number;
        readonly headers: Readonly<Record<string, string>>;
      };
}

/** Never rejects. */
export type Explain = (request: ExplainedRequest) => Promise<Explanation>;

interface ExplainParts {
  readonly self: MachineId;
  readonly router: Pick<Router, 'route' | 'decideEarly'>;
  readonly actionFor: (routed: Routed) => Action;
  /** Names, in lower case, that `Connection` may not name. */
  readonly protectedNames: ReadonlySet<string>;
  readonly mayHaveIdInBody: (head: RequestHead) => boolean;
}

export function createExplain(parts: ExplainParts): Explain {
  const { self, router, actionFor } = parts;
  return async (request) => {
    const steps: Step[] = [];
    const trace: Tracer = { take: (step) => void steps.push(step), isDryRun: true };
    const arrived = arrivedAs(request, parts);
    trace.take({ step: 'request', is: arrived ? 'well-formed' : 'malformed' });
    const routed = arrived
      ? await router.route(arrived, trace)
      : router.decideEarly('malformed-request', trace);
    return { machine: self, steps, response: responseOf(actionFor(routed)) };
  };
}

/** Parses the request as the listener does; undefined if it is malformed. */
function arrivedAs(
  { from, method, target, rawHeaders, body }: ExplainedRequest,
  { protectedNames, mayHaveIdInBody }: ExplainParts,
): ArrivedRequest | undefined {
  const parser = new RequestParser({ ...DEFAULT_LIMITS, protectedNames });
  const host = headerValue(rawHeaders, 'host') === undefined ? 'Host: localhost\r\n' : '';
  const content = Buffer.from(body ?? '', 'utf8');
  const length = body === undefined ? '' : `Content-Length: ${content.length}\r\n`;
  const fields = `${host}${length}${formatFields(rawHeaders)}`;
  const text = `${method} ${target} HTTP/1.1\r\n${fields}\r\n`;
  const bytes = Buffer.from(text, 'latin1');
  const parsed = parser.parse(bytes, 0, bytes.length);
  if (parsed === undefined || 'status' in parsed || parsed.end !== bytes.length) return undefined;
  const { head } = parsed;
  const isRead = body !== undefined && isReadableBody(head) && mayHaveIdInBody(head);
  return {
    from,
    head: isRead ? withBody(head, content.toString('latin1')) : head,
    fields: readEdgeFields(head.rawHeaders),
    bodyLength: head.isChunked ? undefined : (head.contentLength ?? 0),
    placedBy: undefined,
    source: undefined,
  };
}

function withBody(head: RequestHead, body: string): RequestHead {
  const { method, target, host, upgrade, rawHeaders } = head;
  return { method, target, host, upgrade, rawHeaders, body };
}

function responseOf(action: Action): Explanation['response'] {
  switch (action.kind) {
    case 'local':
      return { by: 'app' };
    case 'forward':
      return { by: 'peer', machine: action.peer.machine };
    case 'respond': {
      const { status, headers } = action.response;
      return { by: 'sidecar', status, headers: recordOf(headers) };
    }
  }
}

function recordOf(headers: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i + 1 < headers.length; i += 2) record[headers[i] ?? ''] = headers[i + 1] ?? '';
  return record;
}
