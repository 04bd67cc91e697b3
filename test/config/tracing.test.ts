/** The settings of tracing: those of OpenTelemetry, some of which the app may need in another form. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConfig, type Environment } from '../../src/config/config.ts';
import { environmentOfApp } from '../../src/config/environment.ts';
import { describeMistakes } from '../../src/config/mistakes.ts';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };

function parse(env: Environment): ReturnType<typeof parseConfig> {
  return parseConfig({ FLY_MACHINE_ID: 'm1', ...env }, () => 0.5);
}

function tracingOf(env: Environment) {
  const { config, mistakes } = parse({ ...ENDPOINT, ...env });
  assert.deepEqual(mistakes, undefined);
  assert.ok(config.tracing);
  return config.tracing;
}

describe('tracing is off', () => {
  for (const env of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    { OTEL_SERVICE_NAME: 'a', OTEL_TRACES_SAMPLER: 'xray', OTEL_EXPORTER_OTLP_HEADERS: '%' },
    { ...ENDPOINT, OTEL_SDK_DISABLED: 'true' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317', OTEL_SDK_DISABLED: 'true' },
    { ...ENDPOINT, FLY_AFFINITY_OTEL_SDK_DISABLED: 'TRUE' },
    { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' },
    { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'otlp', FLY_AFFINITY_OTEL_TRACES_EXPORTER: 'None' },
    { FLY_AFFINITY_OTEL_TRACES_EXPORTER: 'none' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317', OTEL_TRACES_EXPORTER: 'none' },
  ] as const) {
    test(`and nothing is warned about with ${JSON.stringify(env)}`, () => {
      const { config, warnings } = parse(env);
      assert.deepEqual([config?.tracing, warnings], [undefined, []]);
    });
  }
});

for (const env of [
  { FLY_AFFINITY_OTEL_EXPORTER_OTLP_HEADERS: 'x-token=s3cret' },
  { FLY_AFFINITY_OTEL_SERVICE_NAME: 'sidecar' },
] as const) {
  const [name] = Object.keys(env);
  test(`${name} without an endpoint is meant for the sidecar, and warned about`, () => {
    assert.deepEqual(parse(env).warnings, [
      `${name} has no effect: OTEL_EXPORTER_OTLP_ENDPOINT is not set, so the sidecar sends no traces`,
    ]);
  });
}

for (const [endpoint, url] of [
  ['http://collector:4318', 'http://collector:4318/v1/traces'],
  ['http://collector:4318/', 'http://collector:4318/v1/traces'],
  ['https://example.com/otlp', 'https://example.com/otlp/v1/traces'],
  ['https://example.com/otlp/', 'https://example.com/otlp/v1/traces'],
  ['http://[fdaa::3]:4318', 'http://[fdaa::3]:4318/v1/traces'],
] as const) {
  test(`traces for ${endpoint} go to ${url}`, () => {
    assert.equal(tracingOf({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }).url, url);
  });
}

for (const [endpoint, shown] of [
  ['collector:4317', '"collector:4317"'],
  ['grpc://collector:4317', '"grpc://collector:4317"'],
  ['true', '"true"'],
  ['https://user:s3cret@example.com', '"https://***@example.com"'],
  ['https://example.com/?key=s3cret', '"https://example.com/?***"'],
] as const) {
  const whole = 'http: or https: URL without credentials and query';

  test(`the endpoint ${endpoint} with the prefix is a mistake, and shows no secret`, () => {
    const { mistakes = [] } = parse({ FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
    assert.equal(
      describeMistakes(mistakes),
      `1 mistake in the configuration
  FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT must be an ${whole}, such as http://127.0.0.1:4318, got ${shown}`,
    );
  });

  test(`the endpoint ${endpoint} may be the app's: the sidecar starts, without traces`, () => {
    const { config, warnings } = parse({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
    assert.deepEqual(
      [config?.tracing, warnings],
      [
        undefined,
        [
          `OTEL_EXPORTER_OTLP_ENDPOINT is not an ${whole}: the sidecar sends no traces. Set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT for the sidecar`,
        ],
      ],
    );
  });

  test(`the endpoint ${endpoint} of the app does not matter beside one with the prefix`, () => {
    const { config } = parse({
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318',
    });
    assert.equal(config?.tracing?.url, 'http://collector:4318/v1/traces');
  });
}

test('otlp may be one of several exporters', () => {
  const { config, warnings } = parse({ ...ENDPOINT, OTEL_TRACES_EXPORTER: 'console, otlp' });
  assert.deepEqual([config?.tracing?.url, warnings], ['http://collector:4318/v1/traces', []]);
});

test('the defaults are those of the specification', () => {
  assert.deepEqual(tracingOf({}), {
    ...{ url: 'http://collector:4318/v1/traces', headers: {}, attributes: {} },
    ...{ sampler: 'parentbased_always_on', ratio: 1 },
  });
});

test('headers and attributes are percent-encoded pairs', () => {
  const { headers, attributes } = tracingOf({
    OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20YTpi== , x-a=',
    OTEL_RESOURCE_ATTRIBUTES: 'service.name=shop,deployment.environment.name=a%2Cb',
  });
  assert.deepEqual(headers, { Authorization: 'Basic YTpi==', 'x-a': '' });
  assert.deepEqual(attributes, { 'service.name': 'shop', 'deployment.environment.name': 'a,b' });
});

test('OTEL_SERVICE_NAME wins over the name in the attributes', () => {
  const env = { OTEL_SERVICE_NAME: 'sidecar', OTEL_RESOURCE_ATTRIBUTES: 'service.name=shop' };
  assert.deepEqual(tracingOf(env).attributes, { 'service.name': 'sidecar' });
});

test('a sampler is found in any case, with its share', () => {
  const env = { OTEL_TRACES_SAMPLER: 'TraceIdRatio', OTEL_TRACES_SAMPLER_ARG: '.25' };
  const { sampler, ratio } = tracingOf(env);
  assert.deepEqual([sampler, ratio], ['traceidratio', 0.25]);
});

describe('a value that has no effect is a warning, as the app may know it:', () => {
  const RATIO = { OTEL_TRACES_SAMPLER: 'traceidratio' };
  for (const [env, warning] of [
    [
      { OTEL_TRACES_SAMPLER: 'xray' },
      'OTEL_TRACES_SAMPLER is "xray", which the sidecar does not have: it uses parentbased_always_on',
    ],
    [
      { FLY_AFFINITY_OTEL_TRACES_SAMPLER: 'xray' },
      'FLY_AFFINITY_OTEL_TRACES_SAMPLER is "xray", which the sidecar does not have: it uses parentbased_always_on',
    ],
    [
      { ...RATIO, OTEL_TRACES_SAMPLER_ARG: '50%' },
      'OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, got "50%": every trace is sent',
    ],
    [
      { OTEL_EXPORTER_OTLP_HEADERS: 'a=b,Bearer s3cret' },
      'OTEL_EXPORTER_OTLP_HEADERS must be name=value,name=value, percent-encoded: a part is ignored',
    ],
    [
      { OTEL_EXPORTER_OTLP_HEADERS: 'a=b%0d%0ac' },
      'OTEL_EXPORTER_OTLP_HEADERS must be name=value,name=value, percent-encoded: a part is ignored',
    ],
    [
      { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
      'OTEL_EXPORTER_OTLP_PROTOCOL is grpc, but the sidecar sends its traces by HTTP: set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT to a port for HTTP, 4318 as a rule',
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317' },
      'OTEL_EXPORTER_OTLP_ENDPOINT has port 4317, which takes gRPC as a rule, but the sidecar sends its traces by HTTP: set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT to a port for HTTP, 4318 as a rule',
    ],
    [
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      },
      'OTEL_EXPORTER_OTLP_PROTOCOL is grpc, but the sidecar sends its traces by HTTP: set FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT to a port for HTTP, 4318 as a rule',
    ],
    [
      { FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT: 'https://example.com/otlp/v1/traces/' },
      'FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT ends with /v1/traces, which the sidecar appends, so traces go to https://example.com/otlp/v1/traces/v1/traces: set it to https://example.com/otlp',
    ],
    [
      { OTEL_SDK_DISABLED: 'yes' },
      'OTEL_SDK_DISABLED must be true or false, got "yes": traces are sent',
    ],
    [
      { OTEL_TRACES_EXPORTER: 'zipkin' },
      'OTEL_TRACES_EXPORTER is "zipkin", but the sidecar has only otlp: traces are sent. To send none, set FLY_AFFINITY_OTEL_TRACES_EXPORTER=none',
    ],
    [
      { OTEL_TRACES_SAMPLER_ARG: '0.1' },
      'OTEL_TRACES_SAMPLER_ARG has no effect with the sampler parentbased_always_on: to send a share of the traces, set OTEL_TRACES_SAMPLER to parentbased_traceidratio',
    ],
  ] as const) {
    test(JSON.stringify(env), () => {
      assert.deepEqual(parse({ ...ENDPOINT, ...env }).warnings, [warning]);
    });
  }

  test('and the protocol of the app is none of an endpoint for the sidecar', () => {
    const { warnings } = parse({
      FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    });
    assert.deepEqual(warnings, []);
  });
});

test('the app keeps its own variables, and does not get the headers of the sidecar', () => {
  const env = {
    OTEL_EXPORTER_OTLP_HEADERS: 'a=b',
    FLY_AFFINITY_OTEL_EXPORTER_OTLP_HEADERS: 'x-token=s3cret',
    OTEL_SERVICE_NAME: 'shop',
  };
  assert.deepEqual(environmentOfApp(env, 3000), {
    ...{ OTEL_EXPORTER_OTLP_HEADERS: 'a=b', OTEL_SERVICE_NAME: 'shop', PORT: '3000' },
  });
});
