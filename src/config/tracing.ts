/** What the settings of tracing mean. Values that have no effect are warnings: the app may know them. */
import { SAMPLERS, type SamplerName, type TracingOptions } from '../observability/tracing.ts';
import { isSet, PREFIX, withPlainNames, type Environment } from './environment.ts';
import type { SettingValues } from './settings.ts';

export interface TracingConfig extends Omit<TracingOptions, 'resource'> {
  /** Of all spans, as a person has set them. */
  readonly attributes: Readonly<Record<string, string>>;
}

type OtelValues = Pick<
  SettingValues,
  | 'OTEL_EXPORTER_OTLP_ENDPOINT'
  | 'OTEL_EXPORTER_OTLP_HEADERS'
  | 'OTEL_SERVICE_NAME'
  | 'OTEL_RESOURCE_ATTRIBUTES'
  | 'OTEL_TRACES_SAMPLER'
  | 'OTEL_TRACES_SAMPLER_ARG'
  | 'OTEL_SDK_DISABLED'
>;

const DEFAULT_SAMPLER: SamplerName = 'parentbased_always_on';

/** Undefined: there are no traces. */
export function tracingFrom(values: OtelValues): TracingConfig | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: isDisabled } = values;
  if (url === undefined || isDisabled.toLowerCase() === 'true') return undefined;
  const { OTEL_SERVICE_NAME: serviceName, OTEL_RESOURCE_ATTRIBUTES: attributes } = values;
  return {
    url,
    headers: pairsOf(values.OTEL_EXPORTER_OTLP_HEADERS).pairs,
    sampler: samplerNamed(values.OTEL_TRACES_SAMPLER) ?? DEFAULT_SAMPLER,
    ratio: ratioOf(values.OTEL_TRACES_SAMPLER_ARG) ?? 1,
    attributes: {
      ...pairsOf(attributes).pairs,
      ...(serviceName !== undefined && { 'service.name': serviceName }),
    },
  };
}

function samplerNamed(text: string): SamplerName | undefined {
  return SAMPLERS.find((name) => name === text.toLowerCase());
}

function ratioOf(text: string): number | undefined {
  const ratio = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN;
  return ratio >= 0 && ratio <= 1 ? ratio : undefined;
}

interface Pairs {
  readonly pairs: Readonly<Record<string, string>>;
  readonly malformedCount: number;
}

/** `name=value,name=value`, percent-encoded, as in W3C Baggage. A name is a token, as that of a header. */
function pairsOf(text = ''): Pairs {
  const pairs: Record<string, string> = {};
  let malformedCount = 0;
  for (const part of text.split(',').filter((each) => each.trim() !== '')) {
    const [, name = '', encoded = ''] =
      /^\s*([\w!#$%&'*+\-.^`|~]+)\s*=\s*(.*?)\s*$/.exec(part) ?? [];
    const value = decoded(encoded);
    if (name === '' || value === undefined) malformedCount += 1;
    else pairs[name] = value;
  }
  return { pairs, malformedCount };
}

/** Undefined if it is malformed, or has a character that no header can have. */
function decoded(text: string): string | undefined {
  try {
    const value = decodeURIComponent(text);
    return /^[\x20-\x7e\x80-\xff]*$/.test(value) ? value : undefined;
  } catch {
    // A percent sign that encodes nothing.
    return undefined;
  }
}

/** Never shows a header: it may be a secret. */
export function warnAboutTracing(
  { tracing }: { readonly tracing: TracingConfig | undefined },
  env: Environment,
): string[] {
  if (!tracing) return [];
  const plain = withPlainNames(env);
  const { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: ratio } = plain;
  const warnings: string[] = [];
  const isOfApp = !isSet(env[`${PREFIX}OTEL_EXPORTER_OTLP_ENDPOINT`]);
  if (isOfApp && env.OTEL_EXPORTER_OTLP_PROTOCOL === 'grpc')
    warnings.push(
      'OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and the sidecar sends its traces by HTTP to OTEL_EXPORTER_OTLP_ENDPOINT: set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT to a port for HTTP',
    );
  if (sampler && !samplerNamed(sampler))
    warnings.push(
      `OTEL_TRACES_SAMPLER is ${JSON.stringify(sampler)}, which the sidecar does not have: it uses ${DEFAULT_SAMPLER}`,
    );
  if (ratio && tracing.sampler.endsWith('traceidratio') && ratioOf(ratio) === undefined)
    warnings.push(
      `OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, got ${JSON.stringify(ratio)}: every trace is sent`,
    );
  for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_RESOURCE_ATTRIBUTES'])
    if (pairsOf(plain[name]).malformedCount > 0)
      warnings.push(`${name} must be name=value,name=value, percent-encoded: a part is ignored`);
  return warnings;
}
