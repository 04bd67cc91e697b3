/**
 * Traces: one span for each request that this sidecar handles, joined to the span before it and to those behind
 * it. The port; `otlp-tracing.ts` sends the spans to a collector. Without the setting there is no `Tracing` at all.
 */
import type { DecisionKind, Why } from '../routing/decision.ts';
import type { MachineId, SessionKey } from '../session.ts';

export interface Tracing {
  /** For each request, when it arrives. Never throws. */
  begin(request: ArrivedSpan): RequestSpan;
  /** Sends the spans that wait, for a bounded time. Never rejects. */
  stop(): Promise<void>;
}

/** What is known of a request when it arrives. A client may have written all of it. */
export interface ArrivedSpan {
  readonly method: string;
  /** `traceparent`: of the client, or of the peer that forwarded the request. */
  readonly traceParent: string | undefined;
  /** {@link RequestSpan.id} of the sidecar that has replayed the request; it wins over `traceparent`. */
  readonly replayedBy: string | undefined;
  readonly scheme: string | undefined;
  readonly host: string | undefined;
  readonly clientAddress: string;
  readonly minorVersion: 0 | 1;
  readonly userAgent: string | undefined;
}

export interface RequestSpan {
  readonly traceId: string;
  /** `<trace id>-<span id>-<flags>`: what stands behind the version in `traceparent`. */
  readonly id: string;
  /** Once, when the response is complete or the client has disconnected. Never throws. */
  end(request: EndedSpan): void;
}

/** As the log has it. */
export interface EndedSpan {
  readonly requestId: string;
  /** Without the query, session ids masked. */
  readonly path: string;
  /** 0: the client got no response. */
  readonly status: number;
  /** Undefined: the client disconnected before the request was routed. */
  readonly decision: DecisionKind | undefined;
  readonly why: Why | undefined;
  readonly reason: string | undefined;
  readonly session: SessionKey | undefined;
  readonly protocol: string | undefined;
  readonly owner: MachineId | undefined;
}

/** The span that caused another one (W3C Trace Context, section 3.2). */
export interface ParentSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly isSampled: boolean;
}

const SPAN = '(?!0{32})([\\da-f]{32})-(?!0{16})([\\da-f]{16})-([\\da-f]{2})';
/** Later versions may append fields. An id of zeros only is invalid. */
const TRACE_PARENT = new RegExp(`^(?!ff)[\\da-f]{2}-${SPAN}(?:$|-)`);
const SPAN_ID = new RegExp(`^${SPAN}$`);
const SAMPLED = 1;

/** Undefined if it is malformed. */
export function parseTraceParent(text: string): ParentSpan | undefined {
  return parentFrom(TRACE_PARENT.exec(text));
}

/** A {@link RequestSpan.id}; undefined if it is malformed. */
export function parseSpanId(text: string): ParentSpan | undefined {
  return parentFrom(SPAN_ID.exec(text));
}

function parentFrom(match: RegExpExecArray | null): ParentSpan | undefined {
  const [, traceId, spanId, flags = ''] = match ?? [];
  if (traceId === undefined || spanId === undefined) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}

/** {@link RequestSpan.id}. */
export function formatSpanId({ traceId, spanId, isSampled }: ParentSpan): string {
  return `${traceId}-${spanId}-${isSampled ? '01' : '00'}`;
}

/** The field of a request that is caused by that span. */
export function formatTraceParent({ id }: RequestSpan): string {
  return `00-${id}`;
}

/** Which traces are exported; the names of the OpenTelemetry specification. */
export const SAMPLERS = [
  ...(['always_on', 'always_off', 'traceidratio'] as const),
  ...(['parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'] as const),
];
export type SamplerName = (typeof SAMPLERS)[number];

export interface TracingOptions {
  /** Where the spans go: the whole URL, without credentials. */
  readonly url: string;
  /** For the collector. They may hold a token: never to be logged. */
  readonly headers: Readonly<Record<string, string>>;
  readonly sampler: SamplerName;
  /** Of new traces, with a `traceidratio`: 0 to 1. */
  readonly ratio: number;
  /** What sends the spans: attributes of the resource. */
  readonly resource: Readonly<Record<string, string>>;
}
