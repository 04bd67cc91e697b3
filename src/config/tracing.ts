/** What the settings of tracing mean. Values that have no effect are warnings: the app may know them. */
import { SAMPLERS, type SamplerName, type TracingOptions } from '../observability/tracing.ts';
import { isSet, PREFIX, withPlainNames, type Environment } from './environment.ts';
import { OTEL_SETTINGS } from './otel-settings.ts';
import { collectorUrl } from './parsers.ts';
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
  | 'OTEL_TRACES_EXPORTER'
  | 'OTEL_SDK_DISABLED'
>;

const DEFAULT_SAMPLER: SamplerName = 'parentbased_always_on';

const ENDPOINT = 'OTEL_EXPORTER_OTLP_ENDPOINT';

/** Without a collector that only the app knows, such as one for gRPC: the app must not lose its sidecar. */
export function withoutUnknownCollector(env: Environment): Environment {
  return hasUnknownCollector(env) ? { ...env, [ENDPOINT]: undefined } : env;
}

function hasUnknownCollector(env: Environment): boolean {
  const endpoint = env[ENDPOINT];
  if (!isSet(endpoint) || isSet(env[PREFIX + ENDPOINT])) return false;
  return collectorUrl(endpoint).mistakes !== undefined;
}

/** Undefined: there are no traces. */
export function tracingFrom(values: OtelValues): TracingConfig | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: url } = values;
  if (url === undefined || isOff(values)) return undefined;
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

/** Whether someone has turned traces off, whatever else is set. */
function isOff(env: Environment | OtelValues): boolean {
  const { OTEL_SDK_DISABLED: isDisabled = '', OTEL_TRACES_EXPORTER: exporter = '' } = env;
  return isDisabled.toLowerCase() === 'true' || exporter.trim().toLowerCase() === 'none';
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

const UNKNOWN = `${ENDPOINT} is not an http: or https: URL without credentials and query: the sidecar sends no traces. Set ${PREFIX}${ENDPOINT} for the sidecar`;

/** Never shows a header, or what is no URL: they may be secrets. */
export function warnAboutTracing(
  { tracing }: { readonly tracing: TracingConfig | undefined },
  env: Environment,
): string[] {
  const plain = withPlainNames(env);
  if (hasUnknownCollector(env)) return isOff(plain) ? [] : [UNKNOWN];
  if (!tracing) return warnWithoutEndpoint(env, plain);
  const malformed = ['OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_RESOURCE_ATTRIBUTES'].filter(
    (name) => pairsOf(plain[name]).malformedCount > 0,
  );
  return [
    ...warnAboutProtocol(tracing, env),
    ...warnAboutPath(tracing),
    ...warnAboutDisabled(plain),
    ...warnAboutExporter(plain),
    ...warnAboutSampler(tracing, plain),
    ...malformed.map(
      (name) => `${name} must be name=value,name=value, percent-encoded: a part is ignored`,
    ),
  ];
}

/** With the prefix they are meant for the sidecar; without it, the app may send its traces elsewhere. */
function warnWithoutEndpoint(env: Environment, plain: Environment): string[] {
  if (isSet(plain.OTEL_EXPORTER_OTLP_ENDPOINT)) return [];
  if (isOff(plain)) return [];
  return Object.keys(OTEL_SETTINGS)
    .filter((name) => name !== 'OTEL_SDK_DISABLED' && isSet(env[`${PREFIX}${name}`]))
    .map(
      (name) =>
        `${name} has no effect: OTEL_EXPORTER_OTLP_ENDPOINT is not set, so the sidecar sends no traces`,
    );
}

const GRPC_PORT = '4317';
const USE_HTTP =
  'the sidecar sends its traces by HTTP: set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT to a port for HTTP, 4318 as a rule';

function warnAboutProtocol({ url }: TracingConfig, env: Environment): string[] {
  const isOfApp = !isSet(env[`${PREFIX}OTEL_EXPORTER_OTLP_ENDPOINT`]);
  if (isOfApp && env.OTEL_EXPORTER_OTLP_PROTOCOL === 'grpc')
    return [`OTEL_EXPORTER_OTLP_PROTOCOL is grpc, but ${USE_HTTP}`];
  if (new URL(url).port !== GRPC_PORT) return [];
  return [
    `OTEL_EXPORTER_OTLP_ENDPOINT has port ${GRPC_PORT}, which takes gRPC as a rule, but ${USE_HTTP}`,
  ];
}

function warnAboutPath({ url }: TracingConfig): string[] {
  const [, endpoint] = /^(.*)\/v1\/traces\/v1\/traces$/.exec(url) ?? [];
  if (endpoint === undefined) return [];
  return [
    `OTEL_EXPORTER_OTLP_ENDPOINT ends with /v1/traces, which the sidecar appends, so traces go to ${url}: set it to ${endpoint}`,
  ];
}

function warnAboutDisabled({ OTEL_SDK_DISABLED: text }: Environment): string[] {
  if (!isSet(text) || text.toLowerCase() === 'false') return [];
  return [`OTEL_SDK_DISABLED must be true or false, got ${JSON.stringify(text)}: traces are sent`];
}

function warnAboutExporter({ OTEL_TRACES_EXPORTER: text }: Environment): string[] {
  if (!isSet(text) || text.split(',').some((name) => name.trim().toLowerCase() === 'otlp'))
    return [];
  return [
    `OTEL_TRACES_EXPORTER is ${JSON.stringify(text)}, but the sidecar has only otlp: traces are sent. To send none, set FLY_AFFINITY_OTEL_TRACES_EXPORTER=none`,
  ];
}

function warnAboutSampler(tracing: TracingConfig, plain: Environment): string[] {
  const { OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: ratio } = plain;
  if (isSet(name) && !samplerNamed(name))
    return [
      `OTEL_TRACES_SAMPLER is ${JSON.stringify(name)}, which the sidecar does not have: it uses ${DEFAULT_SAMPLER}`,
    ];
  if (!isSet(ratio)) return [];
  if (!tracing.sampler.endsWith('traceidratio'))
    return [
      `OTEL_TRACES_SAMPLER_ARG has no effect with the sampler ${tracing.sampler}: to send a share of the traces, set OTEL_TRACES_SAMPLER to parentbased_traceidratio`,
    ];
  if (ratioOf(ratio) !== undefined) return [];
  return [
    `OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, got ${JSON.stringify(ratio)}: every trace is sent`,
  ];
}
