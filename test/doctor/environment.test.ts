import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSettings, compareWithFile } from '../../src/doctor/settings.ts';
import { configOf, troubles } from './support.ts';

const ALONE = { FLEET: 'off' };
const REDIS = { SESSION_STORE_URL: 'redis://host' };

for (const [name, env, expected] of [
  ['the defaults on a Machine are fine', {}, []],
  ['a listener on loopback', { HOST: '127.0.0.1' }, ['warning: HOST is 127.0.0.1.']],
  [
    'a listener without IPv6, in a fleet',
    { HOST: '0.0.0.0' },
    ['warning: HOST is 0.0.0.0, which is IPv4 only.'],
  ],
  ['an app on IPv6', { UPSTREAM_URL: 'http://[::1]:3000' }, []],
  [
    'no fleet, and only ids with hints',
    { ...ALONE, SESSION_PROTOCOLS: 'mcp' },
    ['note: FLEET is off: the sidecar does not query other Machines.'],
  ],
  [
    'no fleet, and no hints',
    { ...ALONE, SESSION_ID_HINTS: 'false', SESSION_PROTOCOLS: 'mcp' },
    ['warning: FLEET is off, no store is shared, and ids of mcp carry no owner hint.'],
  ],
  [
    'no fleet, and ids that clients choose',
    { ...ALONE, SESSION_PROTOCOLS: 'mcp,rpc' },
    ['warning: FLEET is off, no store is shared, and ids of rpc carry no owner hint.'],
  ],
  ['no fleet, and a database', { ...ALONE, ...REDIS, SESSION_ID_HINTS: 'false' }, []],
  [
    'a store in memory',
    { SESSION_STORE_URL: 'memory:' },
    ['note: The session store is in memory.'],
  ],
  ['no store', { SESSION_STORE_ENABLED: 'false' }, ['note: The session store is disabled.']],
  [
    'ids that clients choose and the sidecar rejects',
    { UNKNOWN_SESSION: 'reject', SESSION_PROTOCOLS: 'mcp,rpc' },
    ['note: UNKNOWN_SESSION is reject, but clients of rpc choose their own session ids.'],
  ],
] as const) {
  test(`settings: ${name}`, () => {
    const read = { config: configOf(env), mistakes: [], warnings: [] };
    assert.deepEqual(troubles(checkSettings(read)), expected);
  });
}

test('reports each mistake as an error, and each warning as a warning', () => {
  const read = {
    config: undefined,
    mistakes: ['PORT must be x', 'HOST must be y'],
    warnings: ['z', 'did you mean w?'],
  };
  assert.deepEqual(troubles(checkSettings(read)), [
    'error: PORT must be x.',
    'error: HOST must be y.',
    'warning: z.',
    'warning: did you mean w?',
  ]);
});

test('names the settings that differ from the file, without their values', () => {
  const file = { PORT: '8080', ADMIN_TOKEN: 'from-the-file', OTHER: 'x' };
  const machine = { PORT: '8080', ADMIN_TOKEN: 's3cret' };
  const findings = compareWithFile(file, machine, ['PORT', 'HOST', 'ADMIN_TOKEN']);
  assert.deepEqual(troubles(findings), [
    'note: Settings on this Machine differ from [env] of fly.toml: ADMIN_TOKEN.',
  ]);
  assert.ok(!JSON.stringify(findings).includes('s3cret'));
  assert.deepEqual(compareWithFile({ PORT: '8080' }, machine, ['PORT', 'HOST']), []);
});
