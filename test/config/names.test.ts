/** The names of settings: with the prefix, without it, and misspelt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig, parseToolConfig, type Environment } from '../../src/config/config.ts';
import { describeOverrides, VARIABLE_NAMES, withPlainNames } from '../../src/config/environment.ts';
import { describeMistakes } from '../../src/config/mistakes.ts';
import { SETTING_NAMES } from '../../src/config/settings.ts';
import { findTypos } from '../../src/config/typos.ts';

const random = (): number => 0.5;

function parsed(env: Environment) {
  const result = parseConfig({ FLY_MACHINE_ID: 'm1', ...env }, random);
  assert.deepEqual(result.mistakes, undefined);
  assert.ok(result.config);
  return result;
}

function mistakesIn(env: Environment): readonly string[] {
  return parseConfig({ FLY_MACHINE_ID: 'm1', ...env }, random).mistakes ?? [];
}

/** Any value but the default; 5001 is one of the others. */
const OTHER_VALUES: Environment = {
  HOST: '127.0.0.1',
  MAX_BUFFERED_BYTES: '2000000',
  SESSION_STORE_RETRY_COUNT: '7',
  ADMIN_TOKEN: '0123456789abcdef',
  UPSTREAM_URL: 'http://127.0.0.1:4000',
  UPSTREAM_CHECK_PATH: '/health',
  UPSTREAM_CHECK_HOST: 'a.example',
  SESSION_PROTOCOLS: 'mcp',
  SESSION_ID_HINTS: 'false',
  AFFINITY_COOKIE: 'machine',
  SESSION_STORE_ENABLED: 'false',
  SESSION_STORE_PATH: '/x/sessions.sqlite',
  SESSION_STORE_URL: 'redis://h',
  SESSION_STORE_NAMESPACE: 'other',
  SESSION_MAX_AGE_MS: '700000',
  FLEET: 'm2@127.0.0.1:1',
  FLEET_RESOLVER: '127.0.0.1:5353',
  PLACEMENT: 'region',
  UNKNOWN_SESSION: 'reject',
  OWNER_GONE: 'adopt',
  OWNER_STOPPED: 'gone',
  REPLAY_CACHEABLE: 'true',
  SUSPEND_AFTER: '6m',
  SUSPEND_SOCKET: '/x/api',
  LOG_LEVEL: 'debug',
  LOG_FORMAT: 'text',
  OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
  OTEL_EXPORTER_OTLP_HEADERS: 'x-token=a',
  OTEL_SERVICE_NAME: 'other',
  OTEL_RESOURCE_ATTRIBUTES: 'a=b',
  OTEL_TRACES_SAMPLER: 'always_off',
  OTEL_TRACES_SAMPLER_ARG: '0.5',
  OTEL_TRACES_EXPORTER: 'none',
  OTEL_SDK_DISABLED: 'true',
  FLY_MACHINE_ID: 'm9',
  FLY_ALLOC_ID: 'm9',
  FLY_APP_NAME: 'shop',
  FLY_REGION: 'fra',
  FLY_PROCESS_GROUP: 'web',
};
const TRACED: Environment = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
/** A setting that has no effect without another. */
const BESIDE: Readonly<Record<string, Environment>> = {
  UPSTREAM_CHECK_HOST: { UPSTREAM_CHECK_PATH: '/health' },
  UPSTREAM_CHECK_INTERVAL_MS: { UPSTREAM_CHECK_PATH: '/health' },
  FLY_ALLOC_ID: { FLY_MACHINE_ID: '' },
  SUSPEND_SOCKET: { SUSPEND_AFTER: '6m' },
  OTEL_EXPORTER_OTLP_HEADERS: TRACED,
  OTEL_SERVICE_NAME: TRACED,
  OTEL_RESOURCE_ATTRIBUTES: TRACED,
  OTEL_TRACES_SAMPLER: TRACED,
  OTEL_TRACES_SAMPLER_ARG: TRACED,
  OTEL_TRACES_EXPORTER: TRACED,
  OTEL_SDK_DISABLED: TRACED,
};

for (const name of SETTING_NAMES) {
  test(`FLY_AFFINITY_${name} does what ${name} does, and wins`, () => {
    const value = OTHER_VALUES[name] ?? '5001';
    const beside = BESIDE[name] ?? {};
    const plain = parsed({ ...beside, [name]: value }).config;
    assert.notDeepEqual(plain, parsed(beside).config, `${name} has an effect`);
    const prefixed = { ...beside, [`FLY_AFFINITY_${name}`]: value };
    assert.deepEqual(parsed(prefixed).config, plain);
    const both = parseConfig({ FLY_MACHINE_ID: 'm1', ...prefixed, [name]: '!' }, random);
    assert.ok(both.config);
    assert.deepEqual(both.config, plain);
    const sentence = `FLY_AFFINITY_${name} wins over ${name}, which has another value`;
    const isOfApps = /^(PORT|HOST|LOG_LEVEL|OTEL_.*)$/.test(name);
    assert.equal(both.warnings.includes(sentence), !isOfApps);
    assert.deepEqual(describeOverrides({ ...prefixed, [name]: '!' }), [sentence]);
  });
}

test('both names with the same value, or an empty one, cause no warning', () => {
  const same = { FLY_AFFINITY_PORT: '8000', PORT: '8000' };
  assert.deepEqual(parsed(same).warnings, []);
  const { config, warnings } = parsed({ FLY_AFFINITY_PORT: '', PORT: '8000' });
  assert.deepEqual([config.port, warnings], [8000, []]);
});

test('one warning names all settings that have two values, and none of the values', () => {
  const { warnings } = parsed({
    ...{
      FLY_AFFINITY_HOST: '::1',
      HOST: '0.0.0.0',
      FLY_AFFINITY_PEER_PORT: '8001',
      PEER_PORT: '1',
    },
    ...{ FLY_AFFINITY_ADMIN_TOKEN: '0123456789abcdef', ADMIN_TOKEN: 's3cret' },
  });
  assert.deepEqual(warnings, [
    'FLY_AFFINITY_PEER_PORT, FLY_AFFINITY_ADMIN_TOKEN win over PEER_PORT, ADMIN_TOKEN, which have other values',
  ]);
});

test('a mistake names the variable that has it', () => {
  const env = { FLY_AFFINITY_HOST: '!', HOST: '::', FLY_AFFINITY_PORT: '9091', PORT: '3000' };
  assert.deepEqual(mistakesIn({ ...env, LOG_LEVEL: 'HOST' }), [
    'FLY_AFFINITY_HOST must be an address or a name, got "!"',
    'LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent, got "HOST"',
    'FLY_AFFINITY_PORT and ADMIN_PORT must differ, both are 9091',
  ]);
});

test('the tools read the settings of the store by either name', () => {
  const env = { FLY_AFFINITY_SESSION_STORE_URL: 'redis://a', SESSION_STORE_URL: 'redis://b' };
  const found = parseToolConfig(env);
  assert.ok('config' in found);
  assert.equal(found.config.store.url?.href, 'redis://a');
  const wrong = parseToolConfig({ FLY_AFFINITY_SESSION_STORE_TTL_MS: 'long' });
  assert.ok('mistakes' in wrong);
  assert.match(wrong.mistakes.join(), /^FLY_AFFINITY_SESSION_STORE_TTL_MS must be a duration/);
});

test('plain names replace prefixed ones, and everything else stays', () => {
  const env = { FLY_AFFINITY_PORT: '1', PORT: '2', FLY_AFFINITY_X: 'x', PATH: '/bin', HOST: 'h' };
  assert.deepEqual(withPlainNames(env), {
    ...{ PORT: '1', FLY_AFFINITY_X: 'x', PATH: '/bin', HOST: 'h' },
  });
});

for (const [name, meant] of [
  ['SESSION_STORE_TTL', 'SESSION_STORE_TTL_MS'],
  ['SESSION_STORE_TTL_SECONDS', 'SESSION_STORE_TTL_MS'],
  ['SESION_STORE_TTL', 'SESSION_STORE_TTL_MS'],
  ['SESSION_STORE_ULR', 'SESSION_STORE_URL'],
  ['SESSION_STORE_RETRIES_COUNT', 'SESSION_STORE_RETRY_COUNT'],
  ['SESSION_STORE_CLEANUP_MS', 'SESSION_STORE_CLEANUP_INTERVAL_MS'],
  ['SESSION_STORE_SESSIONS', 'SESSION_STORE_MAX_SESSIONS'],
  ['SESSION_ID_HINT', 'SESSION_ID_HINTS'],
  ['FLEET_GONE_AFTER', 'FLEET_GONE_AFTER_MS'],
  ['FLEET_GONE_MS', 'FLEET_GONE_AFTER_MS'],
  ['REPLAY_MAX_BODY', 'REPLAY_MAX_BODY_BYTES'],
  ['DRAIN_TIMEOUT', 'DRAIN_TIMEOUT_MS'],
  ['DRAIN_TIMEOUT_SEC', 'DRAIN_TIMEOUT_MS'],
  ['STALL_TIMEOUT', 'STALL_TIMEOUT_MS'],
  ['UPSTREAM_ULR', 'UPSTREAM_URL'],
  ['MAX_SESSION_PER_MACHINE', 'MAX_SESSIONS_PER_MACHINE'],
  ['OWNER_STOPED', 'OWNER_STOPPED'],
  ['FLY_AFFINITY_PROT', 'FLY_AFFINITY_PORT'],
  ['FLY_AFFINITY_TTL', 'FLY_AFFINITY_SESSION_STORE_TTL_MS'],
  ['FLY_AFFINITY_STORE_URL', 'FLY_AFFINITY_SESSION_STORE_URL'],
  ['FLY_AFINITY_LOG_LEVEL', 'FLY_AFFINITY_LOG_LEVEL'],
  ['FLYAFFINITY_DRAIN_TIMEOUT', 'FLY_AFFINITY_DRAIN_TIMEOUT_MS'],
  ['OTEL_EXPORTER_OTLP_ENDPIONT', 'OTEL_EXPORTER_OTLP_ENDPOINT'],
  ['OTEL_EXPORTER_OLTP_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'],
  ['OTEL_SERVICENAME', 'OTEL_SERVICE_NAME'],
] as const) {
  test(`${name} suggests ${meant}`, () => {
    assert.deepEqual(findTypos([name]), [`${name} is not a setting; did you mean ${meant}?`]);
  });
}

test('a name with the prefix is reported even where nothing is like it', () => {
  assert.deepEqual(findTypos(['FLY_AFFINITY_COLOUR']), ['FLY_AFFINITY_COLOUR is not a setting']);
});

test('neither settings nor names of other programs are reported', () => {
  assert.deepEqual(findTypos(VARIABLE_NAMES), []);
  const names = [
    'FLY_AFFINITY_RUN_AS',
    ...['SESSION_STORE', 'SESSION_DRIVER', 'SESSION_ID', 'DATABASE_URL', 'REDIS_URL', 'LOG_FORMAT'],
    ...['FLY_PUBLIC_IP', 'FLY_VM_MEMORY_MB', 'FLY_IMAGE_REF', 'FLY_CONSUL_URL', 'FLY_API_TOKEN'],
    ...['MAX_SESSIONS', 'UPSTREAM', 'UPSTREAM_HOST', 'HOSTNAME', 'LANG', 'TERM', '_', 'S'],
  ];
  assert.deepEqual(findTypos(names), []);
});

/** https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ */
const OTEL_NAMES = [
  ...['OTEL_SDK_DISABLED', 'OTEL_ENTITIES', 'OTEL_RESOURCE_ATTRIBUTES', 'OTEL_SERVICE_NAME'],
  ...['OTEL_LOG_LEVEL', 'OTEL_PROPAGATORS', 'OTEL_TRACES_SAMPLER', 'OTEL_TRACES_SAMPLER_ARG'],
  ...['OTEL_BSP_SCHEDULE_DELAY', 'OTEL_BSP_EXPORT_TIMEOUT', 'OTEL_BSP_MAX_QUEUE_SIZE'],
  ...['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 'OTEL_BLRP_SCHEDULE_DELAY', 'OTEL_BLRP_EXPORT_TIMEOUT'],
  ...['OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_COUNT_LIMIT'],
  ...['OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT'],
  ...['OTEL_SPAN_EVENT_COUNT_LIMIT', 'OTEL_SPAN_LINK_COUNT_LIMIT', 'OTEL_CONFIG_FILE'],
  ...['OTEL_EXPORTER_ZIPKIN_ENDPOINT', 'OTEL_EXPORTER_PROMETHEUS_PORT'],
  ...['OTEL_TRACES_EXPORTER', 'OTEL_METRICS_EXPORTER', 'OTEL_LOGS_EXPORTER'],
  ...['OTEL_METRIC_EXPORT_INTERVAL', 'OTEL_METRIC_EXPORT_TIMEOUT', 'OTEL_METRICS_EXEMPLAR_FILTER'],
  ...['', 'TRACES_', 'METRICS_', 'LOGS_'].flatMap((signal) =>
    [
      ...['ENDPOINT', 'INSECURE', 'CERTIFICATE', 'CLIENT_KEY', 'CLIENT_CERTIFICATE', 'HEADERS'],
      ...['COMPRESSION', 'TIMEOUT', 'PROTOCOL'],
    ].map((name) => `OTEL_EXPORTER_OTLP_${signal}${name}`),
  ),
  ...['OTEL_PYTHON_LOG_CORRELATION', 'OTEL_JAVAAGENT_ENABLED', 'OTEL_NODE_RESOURCE_DETECTORS'],
];

test('the names of the OpenTelemetry specification are not reported', () => {
  assert.deepEqual(findTypos(OTEL_NAMES), []);
});

test('a mistake in a name that apps use too says how to set it for the sidecar alone', () => {
  assert.equal(
    describeMistakes(mistakesIn({ LOG_LEVEL: 'VERBOSE' })),
    `1 mistake in the configuration
  LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent, got "VERBOSE"
  If LOG_LEVEL is meant for the app, set FLY_AFFINITY_LOG_LEVEL for the sidecar.`,
  );
  assert.doesNotMatch(describeMistakes(mistakesIn({ FLY_AFFINITY_PORT: 'x' })), /meant for/);
});
