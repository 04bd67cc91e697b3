/**
 * Posts spans to a collector as OTLP over HTTP, in protobuf. The serializer is OpenTelemetry's own. Its transport is
 * not: what that has begun can't be ended, and it reads the environment, which has settings of the app too.
 */
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import { Agent } from 'undici';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { createRateLimitedReport, type Logger } from './log.ts';
import type { TracingOptions } from './tracing.ts';
import { codeOf } from '../errors.ts';

export interface OtlpExporterParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Pick<Logger, 'warn'>;
  readonly version: string;
}

/** For one batch with its retries, in ms. */
const EXPORT_TIMEOUT_MS = 10_000;
const RETRY_COUNT = 5;
const RETRY_DELAY_MS = 1_000;
const FAILURE_REPORT_MS = 60_000;
/** Of a response, which is not read, in bytes: a longer one ends its connection. */
const MAX_RESPONSE_BYTES = 65_536;
/** https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Spans of one request to the collector: few, as the serializer takes 12 microseconds of the event loop for each. */
export const BATCH_SPANS = 128;
/** Spans that wait; more are lost. As many may be in flight, when the process ends. */
export const MAX_WAITING_SPANS = 2_048;
const MAX_BATCHES = MAX_WAITING_SPANS / BATCH_SPANS;
const CONNECTIONS = 4;

class CollectorError extends Error {
  override readonly name = 'CollectorError';
  readonly status: number;

  constructor(status: number) {
    super(`the collector responded ${status}`);
    this.status = status;
  }
}

export class OtlpExporter implements SpanExporter {
  readonly #options: Pick<TracingOptions, 'url' | 'headers'>;
  readonly #parts: OtlpExporterParts;
  readonly #agent = new Agent({ connections: CONNECTIONS, pipelining: 1 });
  readonly #stopped = new AbortController();
  readonly #exports = new Set<Promise<void>>();
  readonly #report: (failure: { readonly error: unknown; readonly spans: number }) => void;

  constructor(options: Pick<TracingOptions, 'url' | 'headers'>, parts: OtlpExporterParts) {
    this.#options = options;
    this.#parts = parts;
    // Without the error itself: it may quote what the collector has sent.
    this.#report = createRateLimitedReport(
      parts.clock,
      FAILURE_REPORT_MS,
      ({ error, spans }, unreported) =>
        parts.logger.warn(
          { url: options.url, ...reasonOf(error), spans, unreported },
          'could not export traces',
        ),
    );
  }

  export(spans: ReadableSpan[], onResult: (result: ExportResult) => void): void {
    const exporting = this.#export(spans).then(onResult);
    this.#exports.add(exporting);
    void exporting.finally(() => this.#exports.delete(exporting));
  }

  /** Resolves when nothing is in flight. */
  async forceFlush(): Promise<void> {
    await Promise.all(this.#exports);
  }

  shutdown(): Promise<void> {
    return this.forceFlush();
  }

  /** Aborts what is in flight. No socket is left when it resolves. */
  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#agent.destroy();
    await this.forceFlush();
  }

  /** Never rejects. */
  async #export(spans: ReadableSpan[]): Promise<ExportResult> {
    try {
      if (this.#exports.size >= MAX_BATCHES) throw new Error('the collector is too slow');
      await this.#post(ProtobufTraceSerializer.serializeRequest(spans) ?? new Uint8Array());
      return { code: ExportResultCode.SUCCESS };
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.#report({ error, spans: spans.length });
      return { code: ExportResultCode.FAILED };
    }
  }

  async #post(body: Uint8Array): Promise<void> {
    const { clock, random } = this.#parts;
    const deadline = new AbortController();
    const late = new Error(`the collector did not respond within ${EXPORT_TIMEOUT_MS} ms`);
    const cancelDeadline = clock.after(EXPORT_TIMEOUT_MS, () => deadline.abort(late));
    const signal = AbortSignal.any([this.#stopped.signal, deadline.signal]);
    try {
      await retry(() => this.#postOnce(body, signal), {
        ...{ retryCount: RETRY_COUNT, delayMs: RETRY_DELAY_MS, isRetryable, clock, random, signal },
      });
    } finally {
      cancelDeadline();
    }
  }

  async #postOnce(body: Uint8Array, signal: AbortSignal): Promise<void> {
    const { origin, pathname } = new URL(this.#options.url);
    const response = await this.#agent.request({
      ...{ origin, path: pathname, method: 'POST', body, signal },
      headers: {
        'user-agent': `fly-affinity-OTLP-Exporter-JavaScript/${this.#parts.version}`,
        ...this.#options.headers,
        'content-type': 'application/x-protobuf',
      },
    });
    await response.body.dump({ limit: MAX_RESPONSE_BYTES, signal });
    const { statusCode } = response;
    if (statusCode < 200 || statusCode > 299) throw new CollectorError(statusCode);
  }
}

/** A collector that refuses connections, or closes them, may be starting. */
function isRetryable(error: unknown): boolean {
  if (error instanceof CollectorError) return RETRYABLE.has(error.status);
  const code = codeOf(error);
  return code !== undefined && code !== 'UND_ERR_ABORTED';
}

/** A constant sentence, or that of the system: never what the collector has sent. */
function reasonOf(error: unknown): { readonly code?: string; readonly reason: string } {
  if (!(error instanceof Error)) return { reason: 'unknown' };
  const code = codeOf(error);
  if (code === undefined) return { reason: error.message };
  // OpenSSL's own text names a line of its source.
  const isNoTls = code === 'ERR_SSL_WRONG_VERSION_NUMBER';
  return {
    code,
    reason: isNoTls ? 'the collector does not speak TLS on this port' : error.message,
  };
}
