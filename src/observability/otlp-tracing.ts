/**
 * Tracing by OpenTelemetry's SDK, which sends spans to a collector in batches. This module is loaded only if there
 * is a collector. What the collector does costs no request anything: spans that it does not take are lost.
 */
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api';
import type { HrTime, Span, SpanContext, Tracer } from '@opentelemetry/api';
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type Sampler,
} from '@opentelemetry/sdk-trace';
import type { Clock } from '../clock.ts';
import { detachedCopy } from '../session.ts';
import {
  BATCH_SPANS,
  MAX_WAITING_SPANS,
  OtlpExporter,
  type OtlpExporterParts,
} from './otlp-exporter.ts';
import { arrivalAttributes, endAttributes, isServerError, spanNameOf } from './span-attributes.ts';
import {
  formatSpanId,
  parseSpanId,
  parseTraceParent,
  type ArrivedSpan,
  type EndedSpan,
  type ParentSpan,
  type RequestSpan,
  type Tracing,
  type TracingOptions,
} from './tracing.ts';

/** How long spans wait for more of them, in ms. */
const BATCH_WAIT_MS = 5_000;
/** How long the last spans may take, in ms: a collector that hangs must not block the end of the process. */
const FLUSH_TIMEOUT_MS = 1_000;

export function createOtlpTracing(options: TracingOptions, parts: OtlpExporterParts): Tracing {
  const { clock, version } = parts;
  const exporter = new OtlpExporter(options, parts);
  const provider = new TracerProvider({
    resource: defaultResource().merge(resourceFromAttributes(options.resource)),
    sampler: samplerOf(options),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxExportBatchSize: BATCH_SPANS,
        maxQueueSize: MAX_WAITING_SPANS,
        scheduledDelayMillis: BATCH_WAIT_MS,
      }),
    ],
  });
  const tracer = provider.getTracer('fly-affinity', version);
  return {
    begin: (request) => new OtlpSpan(request, tracer, clock),
    stop: async () => {
      const timeout = new AbortController();
      // A batch that fails is reported by the exporter.
      const flushed = provider.shutdown().catch(() => undefined);
      await Promise.race([flushed, clock.sleep(FLUSH_TIMEOUT_MS, timeout.signal)]);
      timeout.abort();
      await exporter.close();
      await flushed;
    },
  };
}

function samplerOf({ sampler, ratio }: TracingOptions): Sampler {
  const root = createRootSampler(sampler, ratio);
  return sampler.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root;
}

function createRootSampler(sampler: TracingOptions['sampler'], ratio: number): Sampler {
  if (sampler.endsWith('always_on')) return new AlwaysOnSampler();
  if (sampler.endsWith('always_off')) return new AlwaysOffSampler();
  return new TraceIdRatioBasedSampler(ratio);
}

class OtlpSpan implements RequestSpan {
  readonly id: string;
  readonly traceId: string;
  readonly #span: Span;
  readonly #clock: Pick<Clock, 'now' | 'monotonicMs'>;
  readonly #startedAt: number;
  readonly #startedAtMonotonic: number;

  constructor(request: ArrivedSpan, tracer: Tracer, clock: Pick<Clock, 'now' | 'monotonicMs'>) {
    this.#clock = clock;
    this.#startedAt = clock.now();
    this.#startedAtMonotonic = clock.monotonicMs();
    this.#span = tracer.startSpan(
      spanNameOf(request.method),
      { kind: SpanKind.SERVER, startTime: timeOf(this.#startedAt) },
      contextOf(parentOf(request)),
    );
    if (this.#span.isRecording()) this.#span.setAttributes(arrivalAttributes(request));
    const { traceId, spanId, traceFlags } = this.#span.spanContext();
    this.traceId = traceId;
    this.id = formatSpanId({ traceId, spanId, isSampled: (traceFlags & TraceFlags.SAMPLED) !== 0 });
  }

  end(request: EndedSpan): void {
    const span = this.#span;
    if (!span.isRecording()) return;
    span.setAttributes(endAttributes(request));
    if (isServerError(request.status)) span.setStatus({ code: SpanStatusCode.ERROR });
    const durationMs = this.#clock.monotonicMs() - this.#startedAtMonotonic;
    span.end(timeOf(this.#startedAt + durationMs));
  }
}

/** A replay is caused by the sidecar that replays, whatever the client has sent. */
function parentOf({ replayedBy, traceParent }: ArrivedSpan): ParentSpan | undefined {
  const replaying = replayedBy === undefined ? undefined : parseSpanId(replayedBy);
  if (replaying) return replaying;
  return traceParent === undefined ? undefined : parseTraceParent(traceParent);
}

function contextOf(parent: ParentSpan | undefined): typeof ROOT_CONTEXT {
  if (!parent) return ROOT_CONTEXT;
  const { isSampled } = parent;
  // The span keeps them, and not the head that they were cut from.
  const traceId = detachedCopy(parent.traceId);
  const spanId = detachedCopy(parent.spanId);
  const traceFlags = isSampled ? TraceFlags.SAMPLED : TraceFlags.NONE;
  const context: SpanContext = { traceId, spanId, traceFlags, isRemote: true };
  return trace.setSpanContext(ROOT_CONTEXT, context);
}

const MS_PER_SECOND = 1_000;
const NS_PER_MS = 1_000_000;

/** Of ms since the epoch. The SDK takes a small number for a time since the start of the process. */
function timeOf(ms: number): HrTime {
  const seconds = Math.floor(ms / MS_PER_SECOND);
  return [seconds, Math.round((ms - seconds * MS_PER_SECOND) * NS_PER_MS)];
}
