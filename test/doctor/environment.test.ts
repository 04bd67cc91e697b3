import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSettings, compareWithFile } from '../../src/doctor/settings.ts';
import { configOf, troubles } from './support.ts';

const ALONE = { FLEET: 'off' };
const REDIS = { SESSION_STORE_URL: 'redis://host' };

for (const [name, env, expected] of [
  ['the defaults on a Machine are well', {}, []],
  ['a listener on loopback', { HOST: '127.0.0.1' }, ['warning: HOST is 127.0.0.1.']],
  [
    'a listener without IPv6, in a fleet',
    { HOST: '0.0.0.0' },
    ['warning: HOST is 0.0.0.0, which is IPv4 alone.'],
  ],
  [
    'an app in another place',
    { UPSTREAM_URL: 'http://app.internal:3000' },
    ['warning: UPSTREAM_URL is http://app.internal:3000, which is not in this Machine.'],
  ],
  ['an app on IPv6', { UPSTREAM_URL: 'http://[::1]:3000' }, []],
  [
    'no fleet, and ids with hints alone',
    { ...ALONE, SESSION_PROTOCOLS: 'mcp' },
    ['note: There is no fleet: other Machines are not asked.'],
  ],
  [
    'no fleet, and no hints',
    { ...ALONE, SESSION_ID_HINTS: 'false', SESSION_PROTOCOLS: 'mcp' },
    ['warning: There is no fleet and no shared store, and ids of mcp carry no hint.'],
  ],
  [
    'no fleet, and ids that clients bring',
    { ...ALONE, SESSION_PROTOCOLS: 'mcp,rpc' },
    ['warning: There is no fleet and no shared store, and ids of rpc carry no hint.'],
  ],
  ['no fleet, and a database', { ...ALONE, ...REDIS, SESSION_ID_HINTS: 'false' }, []],
  [
    'a store in memory',
    { SESSION_STORE_URL: 'memory:' },
    ['note: The session store is in memory.'],
  ],
  ['no store', { SESSION_STORE_ENABLED: 'false' }, ['note: There is no session store.']],
  [
    'ids that clients bring, and that are refused',
    { UNKNOWN_SESSION: 'reject', SESSION_PROTOCOLS: 'mcp,rpc' },
    ['note: UNKNOWN_SESSION is reject, and clients of rpc bring ids of their own.'],
  ],
] as const) {
  test(`settings: ${name}`, () => {
    const read = { config: configOf(env), mistakes: [], warnings: [] };
    assert.deepEqual(troubles(checkSettings(read)), expected);
  });
}

test('each mistake is an error, and each warning a warning', () => {
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

test('what a Machine runs with in place of the file is named, and not shown', () => {
  const file = { PORT: '8080', ADMIN_TOKEN: 'from-the-file', OTHER: 'x' };
  const machine = { PORT: '8080', ADMIN_TOKEN: 's3cret' };
  const findings = compareWithFile(file, machine, ['PORT', 'HOST', 'ADMIN_TOKEN']);
  assert.deepEqual(troubles(findings), [
    'note: This Machine has other values than [env] of fly.toml: ADMIN_TOKEN.',
  ]);
  assert.ok(!JSON.stringify(findings).includes('s3cret'));
  assert.deepEqual(compareWithFile({ PORT: '8080' }, machine, ['PORT', 'HOST']), []);
});
