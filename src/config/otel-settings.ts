/** The settings of tracing: those of the OpenTelemetry specification, with its names. */
import { collectorUrl } from './parsers.ts';
import { optional, setting, type Setting } from './setting.ts';

/*
 * Programs in all languages share these names, and a value that one of them does not know must not stop it
 * (OpenTelemetry, "Environment Variable Specification"). `tracing.ts` warns about values that have no effect.
 */
const anyText = (value: string): { readonly value: string } => ({ value });

export const OTEL_SETTINGS = {
  OTEL_EXPORTER_OTLP_ENDPOINT: optional(
    collectorUrl,
    'Sends a span of each request to this OpenTelemetry collector, by OTLP over HTTP (port 4318 as a rule), at `/v1/traces` below this URL.',
  ),
  OTEL_EXPORTER_OTLP_HEADERS: optional(
    anyText,
    'Headers for the collector, such as `Authorization=Bearer%20TOKEN`; more of them behind commas.',
  ),
  OTEL_SERVICE_NAME: optional(
    anyText,
    'Name of the sidecar in traces.',
    '`service.name` of the attributes, else `fly-affinity`',
  ),
  OTEL_RESOURCE_ATTRIBUTES: optional(
    anyText,
    'Attributes of all spans: `key=value,key=value`, percent-encoded.',
  ),
  OTEL_TRACES_SAMPLER: setting(
    'parentbased_always_on',
    anyText,
    'Which traces are sent: `always_on`, `always_off`, `traceidratio`, and with `parentbased_` in front only where the parent span does not decide it.',
  ),
  OTEL_TRACES_SAMPLER_ARG: setting(
    '1',
    anyText,
    'Share of the traces with a `traceidratio`: 0 to 1.',
  ),
  OTEL_TRACES_EXPORTER: setting(
    'otlp',
    anyText,
    'Where traces go: with `none` there are none; each other value is `otlp`.',
  ),
  OTEL_SDK_DISABLED: setting(
    'false',
    anyText,
    'Whether there are no traces, whatever else is set.',
  ),
} as const satisfies Record<string, Setting<unknown>>;
