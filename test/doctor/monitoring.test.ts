import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMonitoring } from '../../src/doctor/monitoring.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const READY = '[checks.ready]\ntype = "http"\nport = 9091\npath = "/readyz"\n';
const METRICS = '[metrics]\nport = 9091\npath = "/metrics"\n';

for (const [name, text, env, expected] of [
  ['a check and metrics on the admin port are fine', READY + METRICS, {}, []],
  [
    'no check and no metrics',
    '',
    {},
    [
      'note: No check probes the readiness of the sidecar.',
      'note: fly.toml does not collect the metrics of the sidecar.',
    ],
  ],
  [
    'another admin port',
    READY + METRICS,
    { ADMIN_PORT: '9000' },
    [
      'note: No check probes the readiness of the sidecar.',
      'note: fly.toml does not collect the metrics of the sidecar.',
    ],
  ],
  [
    'an unknown path',
    READY.replace('readyz', 'health') + METRICS,
    {},
    ['error: The check "ready" requests /health on ADMIN_PORT.'],
  ],
  [
    'metrics at an unknown path',
    READY + METRICS.replace('/metrics', '/stats'),
    {},
    ['error: [metrics] requests /stats on ADMIN_PORT.'],
  ],
  [
    'metrics of the app, too: Fly.io collects the first of them only',
    `${READY}[[metrics]]\nport = 3000\npath = "/stats"\n[[metrics]]\nport = 9091\n`,
    {},
    ['note: fly.toml does not collect the metrics of the sidecar.'],
  ],
  [
    'metrics of the app in another process group',
    `${READY}[processes]\napp = ""\njobs = ""\n[[metrics]]\nport = 3000\nprocesses = ["jobs"]\n[[metrics]]\nport = 9091\n`,
    {},
    [],
  ],
  [
    'a readiness check in a group without a sidecar',
    `[processes]\napp = ""\njobs = ""\n${READY}processes = ["app", "jobs"]\n${METRICS}`,
    {},
    [
      'error: The check "ready" probes the sidecar in the group jobs, which no service of it reaches.',
    ],
  ],
  [
    'a readiness check that goes to the app',
    `${READY}${METRICS}[http_service]\n[[http_service.checks]]\npath = "/readyz"`,
    {},
    ['warning: A check of the service requests /readyz.'],
  ],
  [
    'a check of the app',
    `${READY}${METRICS}[http_service]\n[[http_service.checks]]\npath = "/health"`,
    {},
    ['note: A check of the service requests /health from the app.'],
  ],
] as const) {
  test(`monitoring: ${name}`, () => {
    assert.deepEqual(troubles(checkMonitoring(tomlOf(text), configOf(env))), expected);
  });
}

test('the suggested checks and metrics have no findings', () => {
  const lines = advice(checkMonitoring(tomlOf(''), configOf()));
  assert.deepEqual(troubles(checkMonitoring(tomlOf(lines.join('\n')), configOf())), []);
});
