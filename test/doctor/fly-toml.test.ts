import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkDeployment } from '../../src/doctor/deployment.ts';
import { checkStopping } from '../../src/doctor/stopping.ts';
import { parseFlyToml } from '../../src/doctor/fly-toml.ts';
import { checkReplayCaches } from '../../src/doctor/replay-cache.ts';
import { checkMonitoring } from '../../src/doctor/monitoring.ts';
import { checkServices } from '../../src/doctor/service.ts';
import { configOf, tomlOf, troubles } from './support.ts';

test("the project's own fly.toml has no finding above ok", () => {
  const toml = tomlOf(readFileSync(new URL('../../fly.toml', import.meta.url), 'utf8'));
  const config = configOf(toml.env);
  const findings = [
    ...checkDeployment(toml, config),
    ...checkServices(toml, config),
    ...checkStopping(toml, config),
    ...checkMonitoring(toml, config),
    ...checkReplayCaches(toml, config, { isCacheable: false, affinityCookie: undefined }),
  ];
  assert.deepEqual(troubles(findings), []);
  assert.deepEqual(toml.typeErrors, []);
});

test('reports the position of a TOML error without repeating its text', () => {
  const parsed = parseFlyToml('[env]\nTOKEN = s3cret-value\n');
  assert.ok(parsed.kind === 'mistake');
  assert.match(parsed.mistake, /^line 2, column \d+: [a-z ]+/);
  assert.ok(!parsed.mistake.includes('s3cret'));
});

test('reports every value of the wrong type at once, without the value', () => {
  const { typeErrors } = tomlOf(`
    mounts = "s3cret"
    [env]
    PORT = [8080]
    [http_service]
    internal_port = "8080"
    processes = [1]
    [http_service.concurrency]
    hard_limit = true
  `);
  assert.deepEqual([...typeErrors].sort(), [
    'env.PORT must be a string, a number, true or false',
    'http_service.concurrency.hard_limit must be a number',
    'http_service.internal_port must be a number',
    'http_service.processes must be a list of strings',
    'mounts must be a table, or a list of tables',
  ]);
});

for (const value of ['"s3cret"', 'true', '8080', '[1]', '[{ port = 1 }]', '2026-01-01']) {
  test(`reports a check that is ${value} instead of a table, and reads the others`, () => {
    const { checks, typeErrors } = tomlOf(`
      [checks]
      x = ${value}
      [checks.y]
      port = 8080
    `);
    assert.deepEqual(typeErrors, ['checks.x must be a table']);
    assert.deepEqual(checks, [{ name: 'y', port: 8080, processes: [] }]);
  });
}

test('accepts what flyctl accepts', () => {
  const { env, services, mounts, processGroups, typeErrors } = tomlOf(`
    processes = []
    [env]
    PORT = 8080
    REPLAY_CACHEABLE = true
    LOG_LEVEL = "info"
    [mount]
    destination = "/data"
    [[services]]
    internal_port = "8080"
  `);
  assert.deepEqual(env, { PORT: '8080', REPLAY_CACHEABLE: 'true', LOG_LEVEL: 'info' });
  assert.equal(services[0]?.internalPort, 8080);
  assert.equal(mounts[0]?.destination, '/data');
  assert.deepEqual([processGroups, typeErrors], [[], []]);
});

test('accepts an empty file', () => {
  const { services, mounts, checks, killTimeout } = tomlOf('');
  assert.deepEqual([services, mounts, checks], [[], [], []]);
  assert.deepEqual(killTimeout, { kind: 'unset' });
});
