import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseConfig,
  parseToolConfig,
  type Config,
  type Environment,
} from '../../src/config/config.ts';
import { AUTO } from '../../src/protocols/presets.ts';

const random = (): number => 0.5;

function configOf(env: Environment): Config {
  const { config, mistakes } = parseConfig(env, random);
  assert.deepEqual(mistakes, undefined);
  assert.ok(config);
  return config;
}

function mistakesIn(env: Environment): readonly string[] {
  return parseConfig(env, random).mistakes ?? [];
}

function warningsAbout(env: Environment): readonly string[] {
  const { warnings = [], mistakes } = parseConfig({ FLY_MACHINE_ID: 'm1', ...env }, random);
  assert.deepEqual(mistakes, undefined);
  return warnings;
}

test('no setting is required', () => {
  const { protocols, upstreamUrl, ...rest } = configOf({});
  assert.equal(upstreamUrl.origin, 'http://127.0.0.1:3000');
  assert.deepEqual(protocols, AUTO);
  assert.deepEqual(rest, {
    host: '::',
    port: 8080,
    peerPort: 8081,
    peerDialPort: 8081,
    adminPort: 9091,
    adminToken: undefined,
    upstreamHeadTimeoutMs: 0,
    maxConnections: 10_000,
    maxHeadBytes: 32_768,
    maxBufferedBytes: 67_108_864,
    stallTimeoutMs: 300_000,
    upstreamCheck: undefined,
    hints: true,
    affinityCookie: undefined,
    store: {
      isEnabled: true,
      path: '/data/session-store.sqlite',
      url: undefined,
      namespace: 'fly-affinity',
      ttlMs: 600_000,
      cleanupIntervalMs: 60_000,
      retryCount: 3,
      retryDelayMs: 100,
      maxSessions: 1_000_000,
      maxAgeMs: 0,
    },
    maxSessionsPerMachine: 0,
    fleet: { kind: 'off' },
    fleetResolver: undefined,
    fleetGoneAfterMs: 60_000,
    placement: undefined,
    unknownSession: 'serve',
    ownerGone: 'reject',
    ownerStopped: 'wake',
    replayTimeoutMs: 10_000,
    replayCacheable: false,
    replayMaxBodyBytes: 1_000_000,
    drainTimeoutMs: 25_000,
    suspend: undefined,
    startTimeoutMs: 30_000,
    stopTimeoutMs: 5_000,
    logLevel: 'info',
    logFormat: undefined,
    tracing: undefined,
    identity: {
      machine: 'local555555555',
      app: undefined,
      region: undefined,
      processGroup: undefined,
      isGenerated: true,
    },
  });
});

test('an empty variable counts as unset', () => {
  assert.deepEqual(configOf({ PORT: '', SESSION_STORE_URL: '', FLEET: '' }), configOf({}));
});

test('the configuration is frozen, its parts too', () => {
  const config = configOf({});
  assert.throws(() => Object.assign(config, { port: 1 }), TypeError);
  assert.throws(() => Object.assign(config.store, { ttlMs: 1 }), TypeError);
});

const ACCEPTED: readonly (readonly [
  env: Environment,
  read: (config: Config) => unknown,
  is: unknown,
])[] = [
  [{ PORT: '0' }, (c) => c.port, 0],
  [{ PORT: '65535' }, (c) => c.port, 65_535],
  [{ PEER_PORT: '7000' }, (c) => c.peerDialPort, 7000],
  [{ PEER_DIAL_PORT: '7001' }, (c) => c.peerDialPort, 7001],
  [{ PORT: '0', PEER_PORT: '0', ADMIN_PORT: '0' }, (c) => c.adminPort, 0],
  [{ HOST: 'fly-local-6pn' }, (c) => c.host, 'fly-local-6pn'],
  [{ HOST: '127.0.0.1' }, (c) => c.host, '127.0.0.1'],
  [{ UPSTREAM_URL: 'http://[::1]:4000/' }, (c) => c.upstreamUrl.origin, 'http://[::1]:4000'],
  [
    { UPSTREAM_URL: 'http://app.internal:8080' },
    (c) => c.upstreamUrl.origin,
    'http://app.internal:8080',
  ],
  [{ SESSION_PROTOCOLS: 'cookie:sid' }, (c) => c.protocols.map(({ name }) => name), ['cookie:sid']],
  [{ SESSION_ID_HINTS: 'false' }, (c) => c.hints, false],
  [
    { AFFINITY_COOKIE: 'fly-machine' },
    (c) => c.affinityCookie,
    { name: 'fly-machine', isCrossSite: false, isPartitioned: false },
  ],
  [
    { AFFINITY_COOKIE: 'm; SameSite=Lax' },
    (c) => c.affinityCookie,
    { name: 'm', isCrossSite: false, isPartitioned: false },
  ],
  [
    { AFFINITY_COOKIE: 'm;samesite=none' },
    (c) => c.affinityCookie,
    { name: 'm', isCrossSite: true, isPartitioned: false },
  ],
  [
    { AFFINITY_COOKIE: 'm; SameSite=None; Partitioned' },
    (c) => c.affinityCookie,
    { name: 'm', isCrossSite: true, isPartitioned: true },
  ],
  [{ SESSION_STORE_ENABLED: '0' }, (c) => c.store.isEnabled, false],
  [{ SESSION_STORE_URL: 'memory:' }, (c) => c.store.url?.kind, 'memory'],
  [
    { SESSION_STORE_URL: 'redis://h:1', FLY_MACHINE_ID: 'm1' },
    (c) => c.store.url,
    { kind: 'redis', href: 'redis://h:1' },
  ],
  [
    { SESSION_STORE_URL: 'rediss://u:p@h', FLY_MACHINE_ID: 'm1' },
    (c) => c.store.url?.kind,
    'redis',
  ],
  [
    { SESSION_STORE_URL: 'postgres://h/db', FLY_MACHINE_ID: 'm1' },
    (c) => c.store.url?.kind,
    'postgres',
  ],
  [
    { SESSION_STORE_URL: 'postgresql://h', FLY_MACHINE_ID: 'm1' },
    (c) => c.store.url?.kind,
    'postgres',
  ],
  [{}, (c) => c.store.namespace, 'fly-affinity'],
  [{ FLY_APP_NAME: 'my-app', FLEET: 'off' }, (c) => c.store.namespace, 'my-app'],
  [
    { FLY_APP_NAME: 'a', FLEET: 'off', SESSION_STORE_NAMESPACE: 'b.1' },
    (c) => c.store.namespace,
    'b.1',
  ],
  [{ ADMIN_TOKEN: '0123456789abcdef' }, (c) => c.adminToken, '0123456789abcdef'],
  [{ SESSION_STORE_PATH: ':memory:' }, (c) => c.store.url?.kind, 'memory'],
  [{ SESSION_STORE_PATH: 'sessions.db' }, (c) => c.store.path, 'sessions.db'],
  [{ SESSION_STORE_CLEANUP_INTERVAL_MS: '0' }, (c) => c.store.cleanupIntervalMs, 0],
  [{ SESSION_MAX_AGE_MS: '600000' }, (c) => c.store.maxAgeMs, 600_000],
  [{ FLEET_RESOLVER: '127.0.0.1:5353' }, (c) => c.fleetResolver, '127.0.0.1:5353'],
  [{ FLEET_RESOLVER: 'fdaa::3' }, (c) => c.fleetResolver, '[fdaa::3]:53'],
  [{ FLEET_RESOLVER: '[fdaa::3]:5353' }, (c) => c.fleetResolver, '[fdaa::3]:5353'],
  [
    { UPSTREAM_CHECK_PATH: '/health?deep=1' },
    (c) => c.upstreamCheck,
    { path: '/health?deep=1', intervalMs: 5000, host: undefined },
  ],
  [
    { UPSTREAM_CHECK_PATH: '/', FLY_APP_NAME: 'my-app', FLEET: 'off' },
    (c) => c.upstreamCheck?.host,
    'my-app.fly.dev',
  ],
  [
    {
      UPSTREAM_CHECK_PATH: '/',
      UPSTREAM_CHECK_HOST: 'a.example:8443',
      FLY_APP_NAME: 'my-app',
      FLEET: 'off',
    },
    (c) => c.upstreamCheck?.host,
    'a.example:8443',
  ],
  [
    { UPSTREAM_CHECK_PATH: '/', UPSTREAM_CHECK_INTERVAL_MS: '100' },
    (c) => c.upstreamCheck,
    { path: '/', intervalMs: 100, host: undefined },
  ],
  [{ UPSTREAM_CHECK_INTERVAL_MS: '100' }, (c) => c.upstreamCheck, undefined],
  [{ MAX_SESSIONS_PER_MACHINE: '1000000' }, (c) => c.maxSessionsPerMachine, 1_000_000],
  [{ DRAIN_TIMEOUT_MS: '0' }, (c) => c.drainTimeoutMs, 0],
  [{ LOG_LEVEL: 'silent' }, (c) => c.logLevel, 'silent'],
  [{ LOG_FORMAT: 'json-names' }, (c) => c.logFormat, 'json-names'],
  [{ FLY_MACHINE_ID: 'm1' }, (c) => [c.identity.machine, c.identity.isGenerated], ['m1', false]],
  [{ FLY_ALLOC_ID: 'm2' }, (c) => [c.identity.machine, c.identity.isGenerated], ['m2', false]],
  [{ FLY_MACHINE_ID: 'm1', FLY_ALLOC_ID: 'm2' }, (c) => c.identity.machine, 'm1'],
  [{ FLY_MACHINE_ID: 'm1', FLY_ALLOC_ID: 'Not-An-Id' }, (c) => c.identity.machine, 'm1'],
  [{ FLY_APP_NAME: 'a', FLY_MACHINE_ID: 'm1' }, (c) => c.fleet, { kind: 'auto', appName: 'a' }],
  [{ FLY_APP_NAME: 'a', FLEET: 'off' }, (c) => c.fleet, { kind: 'off' }],
  [
    { FLY_MACHINE_ID: 'm1', FLEET: 'm1@127.0.0.1:1,m2@[::1]:2,m3@peer.test:3' },
    (c) => c.fleet,
    {
      kind: 'static',
      peers: [
        { machine: 'm2', host: '::1', port: 2 },
        { machine: 'm3', host: 'peer.test', port: 3 },
      ],
    },
  ],
];

for (const [env, read, expected] of ACCEPTED) {
  test(`${JSON.stringify(env)} is accepted`, () => {
    assert.deepEqual(read(configOf(env)), expected);
  });
}

const REJECTED: readonly (readonly [name: string, text: string, expected: RegExp])[] = [
  ['PORT', '80a', /^PORT must be a port number from 0 to 65535, got "80a"$/],
  ['PORT', '65536', /port number/],
  ['PORT', '-1', /port number/],
  ['PORT', ' 80', /got " 80"/],
  ['PORT', '1e3', /port number/],
  ['PEER_DIAL_PORT', '0', /port number from 1/],
  ['HOST', 'a b', /an address or a name/],
  ['UPSTREAM_URL', '127.0.0.1:3000', /an http: origin/],
  ['UPSTREAM_URL', 'https://127.0.0.1:3000', /an http: origin/],
  ['UPSTREAM_URL', 'http://127.0.0.1:3000/app', /without path/],
  ['UPSTREAM_URL', 'http://127.0.0.1:3000/?a=b', /without path/],
  ['UPSTREAM_URL', 'http://127.0.0.1:0', /an http: origin/],
  ['UPSTREAM_HEAD_TIMEOUT_MS', '2147483648', /from 0 to 2147483647, got "2147483648"/],
  ['SESSION_PROTOCOLS', 'mcp,smtp', /must be a comma-separated list of auto, mcp, .*, got "smtp"/],
  ['AFFINITY_COOKIE', 'a b', /must be the name of a cookie, .*, got "a b"/],
  ['AFFINITY_COOKIE', '__Host-a', /without the prefixes __Host- and __Secure-, .*, got/],
  ['AFFINITY_COOKIE', 'a; Partitioned', /at most "; SameSite=None; Partitioned", got/],
  ['AFFINITY_COOKIE', 'a; SameSite=Strict', /at most "; SameSite=None; Partitioned", got/],
  ['SESSION_ID_HINTS', 'yes', /must be true or false, got "yes"/],
  ['SESSION_STORE_PATH', '/data/', /the path of a file/],
  ['SESSION_STORE_PATH', 'file:/data/x', /the path of a file/],
  ['SESSION_STORE_TTL_MS', '0', /from 1 to/],
  ['SESSION_STORE_TTL_MS', '1.5', /whole number of milliseconds/],
  ['SESSION_STORE_RETRY_COUNT', '21', /from 0 to 20/],
  ['SESSION_STORE_MAX_SESSIONS', '0', /from 1 to/],
  ['FLEET', 'peers', /auto, off, or a list of id@host:peer-port, got "peers"/],
  ['FLEET', 'm2@[127.0.0.1]:1', /a list of/],
  ['FLEET', 'm2@a:1,m2@b:1', /each Machine once, got "m2" again/],
  ['FLEET_RESOLVER', 'dns.test', /IP address of a DNS server/],
  ['FLEET_RESOLVER', '127.0.0.1:0', /IP address of a DNS server/],
  ['UNKNOWN_SESSION', 'drop', /one of serve, reject/],
  ['OWNER_GONE', 'serve', /one of reject, adopt/],
  ['REPLAY_MAX_BODY_BYTES', '1000001', /whole number of bytes from 0 to 1000000/],
  ['MAX_SESSIONS_PER_MACHINE', '-1', /from 0 to 10000000/],
  ['UPSTREAM_CHECK_PATH', 'health', /must be a path that begins with "\/", got "health"/],
  ['UPSTREAM_CHECK_PATH', '/a b', /must be a path/],
  ['UPSTREAM_CHECK_PATH', '/a#b', /must be a path/],
  ['UPSTREAM_CHECK_INTERVAL_MS', '99', /from 100 to 3600000/],
  ['DRAIN_TIMEOUT_MS', '300000', /from 0 to 299000/],
  ['LOG_LEVEL', 'loud', /one of trace, .*, silent, got "loud"/],
  ['FLY_MACHINE_ID', 'M-1', /a-z and 0-9/],
  ['FLY_ALLOC_ID', 'M-1', /^FLY_ALLOC_ID must be .* a-z and 0-9/],
  ['FLY_APP_NAME', 'my app', /name of a Fly app/],
];

for (const [name, text, expected] of REJECTED) {
  test(`${name}=${text} is an error that states what is expected`, () => {
    const mistakes = mistakesIn({
      FLY_MACHINE_ID: name === 'FLY_ALLOC_ID' ? '' : 'm1',
      [name]: text,
    });
    assert.equal(mistakes.length, 1);
    assert.match(mistakes[0] ?? '', expected);
  });
}

const REJECTED_TOGETHER: readonly (readonly [env: Environment, expected: RegExp])[] = [
  [{ PORT: '9091' }, /^PORT and ADMIN_PORT must differ, both are 9091$/],
  [{ PEER_PORT: '8080' }, /^PORT and PEER_PORT must differ/],
  [
    { AFFINITY_COOKIE: 'sid', SESSION_PROTOCOLS: 'mcp,cookie:sid' },
    /^AFFINITY_COOKIE must not be a cookie of the app's in SESSION_PROTOCOLS, both name sid$/,
  ],
  [{ UPSTREAM_URL: 'http://127.0.0.1:8080' }, /must not be this sidecar itself, .* PORT is 8080/],
  [{ UPSTREAM_URL: 'http://localhost:8081' }, /PEER_PORT is 8081/],
  [{ UPSTREAM_URL: 'http://[::1]:9091' }, /ADMIN_PORT is 9091/],
  [{ UPSTREAM_URL: 'http://0.0.0.0', PORT: '80' }, /PORT is 80/],
  [
    { MAX_SESSIONS_PER_MACHINE: '11', SESSION_STORE_MAX_SESSIONS: '10' },
    /MAX_SESSIONS_PER_MACHINE must not exceed SESSION_STORE_MAX_SESSIONS, got 11 and 10/,
  ],
  [
    { SESSION_MAX_AGE_MS: '1000' },
    /SESSION_MAX_AGE_MS must be 0 or at least SESSION_STORE_TTL_MS, got 1000 and 600000/,
  ],
  [{ FLY_APP_NAME: 'a' }, /FLY_MACHINE_ID must be set when there is a fleet/],
  [{ FLEET: 'm2@127.0.0.1:1' }, /FLY_MACHINE_ID must be set when there is a fleet/],
  [{ SESSION_STORE_URL: 'redis://h' }, /FLY_MACHINE_ID must be set when SESSION_STORE_URL names/],
  [{ FLY_APP_NAME: 'a', FLY_MACHINE_ID: 'm1', PEER_PORT: '0' }, /PEER_DIAL_PORT must be set/],
];

for (const [env, expected] of REJECTED_TOGETHER) {
  test(`${JSON.stringify(env)} are incompatible`, () => {
    const mistakes = mistakesIn(env);
    assert.equal(mistakes.length, 1);
    assert.match(mistakes[0] ?? '', expected);
  });
}

test('all errors are reported at once, also those between settings', () => {
  const mistakes = mistakesIn({
    HOST: '!',
    PEER_PORT: '9091',
    LOG_LEVEL: 'x',
    SESSION_PROTOCOLS: 'a,b',
  });
  assert.deepEqual(
    mistakes.map((mistake) => mistake.split(' ', 1)[0]),
    ['HOST', 'SESSION_PROTOCOLS', 'SESSION_PROTOCOLS', 'LOG_LEVEL', 'PEER_PORT'],
  );
});

test('an error never shows a secret', () => {
  const mistakes = mistakesIn({
    SESSION_STORE_URL: 'mysql://user:s3cret@host/?password=s3cret',
    ADMIN_TOKEN: 's3cret',
    UPSTREAM_URL: 'http://user:s3/cret@host:1?token=s3cret',
  });
  assert.equal(mistakes.length, 3);
  assert.ok(!/s3|cret\b/.test(mistakes.join()), mistakes.join('\n'));
  assert.match(mistakes.join(), /SESSION_STORE_URL must be redis:.*"mysql:…"/);
});

test('a long value is truncated in its error', () => {
  assert.ok((mistakesIn({ HOST: '!'.repeat(10_000) })[0] ?? '').length < 200);
});

const WARNED: readonly (readonly [env: Environment, expected: RegExp])[] = [
  [
    { FLY_ALLOC_ID: 'm2' },
    /FLY_MACHINE_ID \(m1\) and FLY_ALLOC_ID \(m2\) differ; the first is used/,
  ],
  [
    { SESSION_STORE_PTH: 'x' },
    /^SESSION_STORE_PTH is not a setting; did you mean SESSION_STORE_PATH\?$/,
  ],
  [{ SESSION_STORE_CACHE: 'x' }, /did you mean SESSION_STORE_/],
  [{ LOG_LEVLE: 'x' }, /did you mean LOG_LEVEL\?/],
  [{ FLEET_DNS: 'x' }, /FLEET_DNS is not a setting/],
  [{ SESSION_STORE_URL: 'memory:', SESSION_STORE_PATH: '/x' }, /SESSION_STORE_PATH has no effect/],
  [
    { SESSION_STORE_ENABLED: 'false', SESSION_STORE_PATH: '/x' },
    /SESSION_STORE_PATH has no effect/,
  ],
];

for (const [env, expected] of WARNED) {
  test(`${JSON.stringify(env)} causes a warning`, () => {
    const warnings = warningsAbout(env);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', expected);
  });
}

test("other programs' variables cause no warning", () => {
  const env = {
    PATH: '/bin',
    HOME: '/',
    POST: '1',
    SESSION_SECRET: 'x',
    FLY_REGIO: 'x',
    NODE_ENV: 'x',
  };
  assert.deepEqual(warningsAbout(env), []);
});

test('a warning about a misspelt variable does not show its value', () => {
  const warnings = warningsAbout({ SESSION_STORE_ULR: 'redis://user:s3cret@host' });
  assert.match(warnings.join(), /did you mean SESSION_STORE_URL\?/);
  assert.doesNotMatch(warnings.join(), /s3cret/);
});

test('opening a store requires only the settings of the store', () => {
  const url = 'postgres://user:s3cret@host/db';
  const env = { SESSION_STORE_URL: url, FLY_APP_NAME: 'shop', ADMIN_PORT: '9', PORT: 'odd' };
  assert.ok(mistakesIn(env).length > 1);
  const parsed = parseToolConfig(env);
  assert.ok('config' in parsed);
  const { store, ...rest } = parsed.config;
  assert.deepEqual(rest, { host: '::', adminPort: 9, adminToken: undefined });
  assert.deepEqual(store, {
    ...configOf({}).store,
    url: { kind: 'postgres', href: url },
    namespace: 'shop',
  });
});

test('opening a store reports all errors in its settings at once', () => {
  const parsed = parseToolConfig({
    ADMIN_TOKEN: 'short',
    SESSION_STORE_URL: 'http://x',
    PORT: 'odd',
  });
  assert.ok('mistakes' in parsed);
  assert.deepEqual(
    parsed.mistakes.map((mistake) => mistake.split(' ', 1)[0]),
    ['SESSION_STORE_URL', 'ADMIN_TOKEN'],
  );
});

test('SUSPEND_AFTER has an effect on Fly Machines of up to 2 GB, and says so elsewhere', () => {
  const machine = { FLY_APP_NAME: 'shop', FLY_MACHINE_ID: 'm1', SUSPEND_AFTER: '5m' };
  const parsed = parseConfig(machine, () => 0.5);
  assert.deepEqual(parsed.config?.suspend, {
    afterMs: 300_000,
    socketPath: '/.fly/api',
  });
  assert.deepEqual(parsed.warnings, []);
  const warningsOf = (env: Environment): string =>
    (parseConfig(env, () => 0.5).warnings ?? []).join();
  assert.match(warningsOf({ SUSPEND_AFTER: '5m' }), /^SUSPEND_AFTER has no effect: this is not/);
  assert.match(
    warningsOf({ ...machine, FLY_VM_MEMORY_MB: '4096' }),
    /^SUSPEND_AFTER may have no effect: .* up to 2048 MB, this one has 4096 MB$/,
  );
  for (const env of [{}, { SUSPEND_AFTER: '0' }, { ...machine, FLY_VM_MEMORY_MB: '2048' }])
    assert.equal(warningsOf(env), '');
});
