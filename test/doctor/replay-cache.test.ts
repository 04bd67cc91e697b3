import type { Protocol } from '../../src/protocols/protocol.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adviseReplayCache, cacheKeys, checkReplayCaches } from '../../src/doctor/replay-cache.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const CACHE_ON = { isCacheable: true, affinityCookie: undefined };
const CACHE_OFF = { isCacheable: false, affinityCookie: undefined };
const cache = (type: string, name: string, ttl = 'ttl_seconds = 60'): string =>
  `[http_service]\n[[http_service.http_options.replay_cache]]\ntype = "${type}"\nname = "${name}"\n${ttl}\n`;

const EMPTY = 'warning: fly.toml has a replay_cache, but REPLAY_CACHEABLE is false.';

for (const [name, text, protocols, settings, expected] of [
  ['that is absent, without REPLAY_CACHEABLE', '[http_service]', 'mcp', CACHE_OFF, []],
  ['keyed on the header', cache('header', 'Mcp-Session-Id'), 'mcp', CACHE_ON, []],
  ['keyed on the cookie', cache('cookie', 'sid'), 'cookie:sid', CACHE_ON, []],
  [
    'keyed on a cookie whose name differs in case',
    cache('cookie', 'SID'),
    'cookie:sid',
    CACHE_ON,
    ['error: A replay_cache is keyed on the cookie SID, which does not hold a session id.'],
  ],
  [
    'keyed on the user',
    cache('header', 'authorization'),
    'mcp',
    CACHE_ON,
    [
      'error: A replay_cache is keyed on the header authorization, which does not hold a session id.',
    ],
  ],
  [
    'for ids in a query',
    cache('header', 'session_id'),
    'mcp-sse',
    CACHE_ON,
    ['error: A replay_cache is keyed on the header session_id, which does not hold a session id.'],
  ],
  [
    'of the affinity cookie',
    cache('cookie', 'machine'),
    'mcp',
    { ...CACHE_ON, affinityCookie: 'machine' },
    [],
  ],
  [
    'with a short TTL',
    cache('header', 'mcp-session-id', 'ttl_seconds = 5'),
    'mcp',
    CACHE_ON,
    ['error: ttl_seconds of the replay_cache of mcp-session-id is 5.'],
  ],
  [
    'without a TTL',
    cache('header', 'mcp-session-id', ''),
    'mcp',
    CACHE_ON,
    ['error: ttl_seconds of the replay_cache of mcp-session-id is not set.'],
  ],
  [
    'of an unknown type',
    cache('query', 'session_id'),
    'mcp-sse',
    CACHE_ON,
    ['error: A replay_cache has the type "query".'],
  ],
  ['without cacheable replays', cache('header', 'mcp-session-id'), 'mcp', CACHE_OFF, [EMPTY]],
  [
    'that is absent, with REPLAY_CACHEABLE',
    '[http_service]',
    'mcp',
    CACHE_ON,
    ['warning: REPLAY_CACHEABLE is true, but fly.toml has no replay_cache.'],
  ],
  [
    'that is absent, with no possible key',
    '[http_service]',
    'mcp-sse',
    CACHE_ON,
    ['warning: REPLAY_CACHEABLE is true, but no protocol has its id in a header or a cookie.'],
  ],
] as const) {
  test(`a replay cache ${name}`, () => {
    const config = configOf({ SESSION_PROTOCOLS: protocols });
    assert.deepEqual(troubles(checkReplayCaches(tomlOf(text), config, settings)), expected);
  });
}

test('the suggested sections have no findings and no duplicate keys', () => {
  const config = configOf({ SESSION_PROTOCOLS: 'mcp,mcp-sse,rpc,cookie:a.b' });
  const finding = adviseReplayCache(config.protocols, CACHE_ON);
  const toml = tomlOf(`[http_service]\n${advice([finding]).join('\n')}`);
  const [service] = toml.services;
  assert.deepEqual(
    service?.replayCaches.map(({ type, name }) => `${type} ${name}`),
    ['header mcp-session-id', 'header x-session-id', 'cookie a.b'],
  );
  assert.deepEqual(troubles(checkReplayCaches(toml, config, CACHE_ON)), []);
  assert.match('why' in finding ? finding.why : '', /there is none for mcp-sse\.$/);
});

test('suggests no section for protocols without a header or a cookie', () => {
  const { protocols } = configOf({ SESSION_PROTOCOLS: 'mcp-sse' });
  const finding = adviseReplayCache(protocols, CACHE_OFF);
  assert.deepEqual(advice([finding]), []);
  assert.equal(finding.what, 'No replay cache can serve these protocols.');
});

test('maps any protocol to keys by its id locations', () => {
  const [protocol] = configOf({ SESSION_PROTOCOLS: 'mcp' }).protocols;
  assert.ok(protocol);
  const added: Protocol = {
    ...protocol,
    name: 'added',
    idLocations: [
      { in: 'path', pattern: /^\/rooms\/(\w+)/ },
      { in: 'header', name: 'x-room', mayCarryHint: true },
      { in: 'header', name: 'X-Room', mayCarryHint: true },
    ],
  };
  assert.deepEqual(cacheKeys([added], undefined), [{ type: 'header', name: 'x-room' }]);
});
