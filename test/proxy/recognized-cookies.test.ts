/** `auto` beside session cookies of the app: the affinity cookie `fly-affinity`, over real sidecars. */
import assert from 'node:assert/strict';
import type { OutgoingHttpHeaders, RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import { createTestClock } from '../support/clock.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

const COOKIES = [
  'connect.sid',
  'JSESSIONID',
  'PHPSESSID',
  '.AspNetCore.Session',
  'ASP.NET_SessionId',
];

/** `/login?NAME` sets that cookie; responds with its Machine and the cookies that it received. */
function appOf(at: string): RequestListener {
  return (req, res) => {
    const [path, name = ''] = (req.url ?? '').split('?');
    const headers: OutgoingHttpHeaders = {};
    if (path === '/login') headers['set-cookie'] = `${name}=abc; Path=/; HttpOnly`;
    if (path === '/logo') headers['cache-control'] = 'public, max-age=60';
    if (path === '/open') headers['mcp-session-id'] = 'abc';
    res.writeHead(path === '/missing' ? 404 : 200, headers);
    res.end(JSON.stringify({ at, cookie: req.headers.cookie ?? '' }));
  };
}

interface Two {
  readonly fleet: TestFleet;
  readonly m1: TestMachine;
  readonly m2: TestMachine;
}

async function startTwo(t: TestContext, env: Environment = {}, clock?: Clock): Promise<Two> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const m2 = await fleet.start('m2', await serveApp(t, appOf('m2')), env);
  const parts = clock ? { clock } : {};
  const m1 = await fleet.start('m1', await serveApp(t, appOf('m1')), env, parts);
  return { fleet, m1, m2 };
}

function request(
  machine: TestMachine,
  path: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(machine.url + path, { headers, redirect: 'manual' });
}

const setCookies = (response: Response): string[] => response.headers.getSetCookie();

/** The affinity cookie of the response, in the form that a browser sends it. */
function ownCookie(response: Response): string | undefined {
  const lines = setCookies(response).filter((line) => line.startsWith('fly-affinity='));
  assert.ok(lines.length <= 1, 'set once');
  return lines[0]?.split(';', 1)[0];
}

async function login(machine: TestMachine): Promise<string> {
  return ownCookie(await request(machine, '/login?connect.sid')) ?? '';
}

const undeliveredTo = (machine: string): Record<string, string> => ({
  'fly-replay-failed': `instance=${machine};app=a;region=iad;replay_source=m2;reason=timeout;elapsed_ms=10`,
});

describe('the affinity cookie beside a session cookie of the app', () => {
  for (const name of COOKIES) {
    test(`is set once, and binds nothing: ${name}`, async (t) => {
      const { m1, m2 } = await startTwo(t);
      const created = await request(m1, `/login?${name}`);
      const [theirs, ours = ''] = setCookies(created);
      assert.equal(theirs, `${name}=abc; Path=/; HttpOnly`);
      assert.match(
        ours,
        /^fly-affinity=m1\.[0-9a-z]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/,
      );
      const cookie = `${name}=abc; ${ownCookie(created) ?? ''}`;
      const again = await request(m1, '/', { cookie });
      assert.deepEqual(setCookies(again), []);
      const body = await again.json();
      assert.deepEqual(body, { at: 'm1', cookie: `${name}=abc` });
      const elsewhere = await request(m2, '/', { cookie });
      assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
      assert.deepEqual([await m1.rowCount(), await m2.rowCount()], [0, 0]);
    });
  }

  test('is set for a client that has the session cookie alone, where it is served', async (t) => {
    const { m1, m2 } = await startTwo(t);
    for (const machine of [m1, m2]) {
      const response = await request(machine, '/', { cookie: 'a=1; PHPSESSID=abc' });
      assert.match(ownCookie(response) ?? '', new RegExp(`^fly-affinity=${machine.id}\\.`));
    }
  });

  test('is set again once a tenth of its time is over, and not before', async (t) => {
    const clock = createTestClock();
    const { m1 } = await startTwo(t, { SESSION_STORE_TTL_MS: '1000000' }, clock);
    const cookie = `connect.sid=abc; ${await login(m1)}`;
    await clock.advance(99_000);
    assert.equal(ownCookie(await request(m1, '/', { cookie })), undefined);
    await clock.advance(1_000);
    const renewed = ownCookie(await request(m1, '/', { cookie }));
    assert.match(renewed ?? '', /^fly-affinity=m1\./);
    assert.notEqual(`connect.sid=abc; ${renewed ?? ''}`, cookie);
  });

  // prettier-ignore
  const without: readonly (readonly [claim: string, path: string, cookie: string])[] = [
    ['a client without cookies', '/', ''],
    ['other cookies of the app', '/login?theme', ''],
    ['a name that only begins like one', '/login?PHPSESSIDS', 'xconnect.sid=1; connect.sid2=2; jsessionid=3'],
    ['a name in a value', '/', 'a=PHPSESSID=abc'],
    ['a publicly cacheable response', '/logo', 'connect.sid=abc'],
  ];
  for (const [claim, path, cookie] of without) {
    test(`is not set for ${claim}`, async (t) => {
      const { m1 } = await startTwo(t);
      const headers = cookie === '' ? {} : { cookie };
      const response = await request(m1, path, headers);
      assert.equal(ownCookie(response), undefined);
      assert.deepEqual(await response.json(), { at: 'm1', cookie });
    });
  }

  test('is not set within a session, which counts before the cookie', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const opened = await request(m1, '/open', { cookie: 'connect.sid=abc' });
    const cookie = `connect.sid=abc; ${await login(m2)}`;
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '', cookie };
    const response = await request(m1, '/', session);
    assert.deepEqual(setCookies(response), []);
    assert.deepEqual(await response.json(), { at: 'm1', cookie: 'connect.sid=abc' });
  });

  test('is set on a 404 of the app too', async (t) => {
    const { m1 } = await startTwo(t);
    const response = await request(m1, '/missing', { cookie: 'connect.sid=abc' });
    assert.equal(response.status, 404);
    assert.match(ownCookie(response) ?? '', /^fly-affinity=m1\./);
  });

  test('gives way to AFFINITY_COOKIE, which is set for all', async (t) => {
    const { m1 } = await startTwo(t, { AFFINITY_COOKIE: 'aff' });
    const lines = setCookies(await request(m1, '/login?connect.sid'));
    assert.match(lines.join('\n'), /^connect\.sid=abc[^\n]*\naff=m1\.[^\n]*$/);
  });

  test('is not set beside a cookie whose preset is listed: its id has a hint', async (t) => {
    const { m1 } = await startTwo(t, { SESSION_PROTOCOLS: 'auto,express' });
    const lines = setCookies(await request(m1, '/login?connect.sid'));
    assert.deepEqual(lines, ['connect.sid=abc~m1; Path=/; HttpOnly']);
    assert.equal(await m1.rowCount(), 1);
    assert.match(ownCookie(await request(m1, '/login?PHPSESSID')) ?? '', /^fly-affinity=m1\./);
  });
});

describe('the Machine of an affinity cookie', () => {
  test('gets requests with a text that only looks like an id', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const cookie = `connect.sid=abc; ${await login(m1)}`;
    for (const path of ['/users?id=zP3NrZ9eqOVhWvSpsNfHXg', '/session/0123456789abcdef0123/x']) {
      const elsewhere = await request(m2, path, { cookie });
      assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
      assert.deepEqual(await (await request(m1, path, { cookie })).json(), {
        ...{ at: 'm1', cookie: 'connect.sid=abc' },
      });
      const first = await request(m2, path, { cookie: 'connect.sid=abc' });
      assert.match(ownCookie(first) ?? '', /^fly-affinity=m2\./);
    }
  });

  test('is unknown: the request is replayed once, then served here with a new cookie', async (t) => {
    const { m1 } = await startTwo(t);
    const cookie = 'PHPSESSID=abc; fly-affinity=nobody.thz3f1';
    const first = await request(m1, '/', { cookie });
    assert.match(first.headers.get('fly-replay') ?? '', /^instance=nobody;.*fallback=prefer_self/);
    const response = await request(m1, '/', { cookie, ...undeliveredTo('nobody') });
    assert.match(ownCookie(response) ?? '', /^fly-affinity=m1\./);
    assert.deepEqual(await response.json(), { at: 'm1', cookie: 'PHPSESSID=abc' });
  });

  test('is gone: another Machine serves, and sets its own cookie', async (t) => {
    const clock = createTestClock();
    const { fleet, m1 } = await startTwo(t, { FLEET_GONE_AFTER_MS: '10000' }, clock);
    const cookie = 'PHPSESSID=abc; fly-affinity=m2.thz3f1';
    assert.match(
      (await request(m1, '/', { cookie })).headers.get('fly-replay') ?? '',
      /^instance=m2;/,
    );
    fleet.lines.get('m2')?.refuse();
    let response = await request(m1, '/', { cookie });
    for (let i = 0; i < 100 && response.status !== 200; i += 1) {
      await clock.advance(1_000);
      response = await request(m1, '/', { cookie, ...undeliveredTo('m2') });
    }
    assert.deepEqual(await response.json(), { at: 'm1', cookie: 'PHPSESSID=abc' });
    assert.match(ownCookie(response) ?? '', /^fly-affinity=m1\./);
  });
});
