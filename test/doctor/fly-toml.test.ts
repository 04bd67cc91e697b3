import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkDeployment } from '../../src/doctor/deployment.ts';
import { parseFlyToml } from '../../src/doctor/fly-toml.ts';
import { checkMonitoring } from '../../src/doctor/monitoring.ts';
import { checkReplayCaches } from '../../src/doctor/replay-cache.ts';
import { checkServices } from '../../src/doctor/service.ts';
import { checkStopping } from '../../src/doctor/stopping.ts';
import { configOf, tomlOf, troubles } from './support.ts';

test("the project's own fly.toml is without a remark", () => {
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
  assert.deepEqual(toml.misfits, []);
});

test('what is no TOML is told with its place, and nothing of it is repeated', () => {
  const parsed = parseFlyToml('[env]\nTOKEN = s3cret-value\n');
  assert.ok(parsed.kind === 'mistake');
  assert.match(parsed.mistake, /^line 2, column \d+: [a-z ]+/);
  assert.ok(!parsed.mistake.includes('s3cret'));
});

test('values of another type are told, all at once, and not shown', () => {
  const { misfits } = tomlOf(`
    mounts = "s3cret"
    [env]
    PORT = 8080
    [http_service]
    internal_port = "8080"
    processes = [1]
    [http_service.concurrency]
    hard_limit = true
  `);
  assert.deepEqual([...misfits].sort(), [
    'env.PORT must be a text',
    'http_service.concurrency.hard_limit must be a number',
    'http_service.internal_port must be a number',
    'http_service.processes must be a list of texts',
    'mounts must be a table, or a list of tables',
  ]);
});

test('a file with nothing in it is one', () => {
  const { services, mounts, checks, killTimeout } = tomlOf('');
  assert.deepEqual([services, mounts, checks], [[], [], []]);
  assert.deepEqual(killTimeout, { kind: 'unset' });
});
