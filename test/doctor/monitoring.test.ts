import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMonitoring } from '../../src/doctor/monitoring.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const READY = '[checks.ready]\ntype = "http"\nport = 9091\npath = "/readyz"\n';
const METRICS = '[metrics]\nport = 9091\npath = "/metrics"\n';

for (const [name, text, env, expected] of [
  ['a check and metrics on the admin port are well', READY + METRICS, {}, []],
  [
    'nothing asks',
    '',
    {},
    [
      'note: No check asks whether the sidecar is ready.',
      'note: Nobody collects the metrics of the sidecar.',
    ],
  ],
  [
    'another admin port',
    READY + METRICS,
    { ADMIN_PORT: '9000' },
    [
      'note: No check asks whether the sidecar is ready.',
      'note: Nobody collects the metrics of the sidecar.',
    ],
  ],
  [
    'a path that is not there',
    READY.replace('readyz', 'health') + METRICS,
    {},
    ['error: The check "ready" asks ADMIN_PORT for /health.'],
  ],
  [
    'metrics at a path that is not there',
    READY + METRICS.replace('/metrics', '/stats'),
    {},
    ['error: [metrics] asks ADMIN_PORT for /stats.'],
  ],
  [
    'metrics of the app, too',
    `${READY}[[metrics]]\nport = 3000\npath = "/stats"\n[[metrics]]\nport = 9091\n`,
    {},
    [],
  ],
  [
    'readiness asked of the app',
    `${READY}${METRICS}[http_service]\n[[http_service.checks]]\npath = "/readyz"`,
    {},
    ['warning: A check of the service asks for /readyz.'],
  ],
  [
    'a check of the app',
    `${READY}${METRICS}[http_service]\n[[http_service.checks]]\npath = "/health"`,
    {},
    ['note: A check of the service asks the app for /health.'],
  ],
] as const) {
  test(`monitoring: ${name}`, () => {
    assert.deepEqual(troubles(checkMonitoring(tomlOf(text), configOf(env))), expected);
  });
}

test('the lines for checks and metrics are such as are well', () => {
  const lines = advice(checkMonitoring(tomlOf(''), configOf()));
  assert.deepEqual(troubles(checkMonitoring(tomlOf(lines.join('\n')), configOf())), []);
});
