/** The affinity cookie for an app without session ids: complete sidecars, and clients that keep cookies. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { freePort } from '../support/free-port.ts';
import { serveApp } from '../support/sidecar.ts';

const SETTING = { AFFINITY_COOKIE: 'aff' };

/** Responds with its Machine and the cookies that it received. */
function appOf(at: string): RequestListener {
  return (req, res) => {
    const headers: http.OutgoingHttpHeaders = {};
    if (req.url === '/open') headers['mcp-session-id'] = 'abc';
    if (req.url === '/own') headers['set-cookie'] = 'theme=dark; Path=/';
    if (req.url === '/logo.png') headers['cache-control'] = 'public, max-age=31536000';
    res.writeHead(200, headers);
    res.end(JSON.stringify({ at, cookie: req.headers.cookie }));
  };
}

async function startTwo(t: TestContext): Promise<{
  readonly fleet: TestFleet;
  readonly m1: TestMachine;
  readonly m2: TestMachine;
}> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const start = async (id: string): Promise<TestMachine> =>
    fleet.start(id, await serveApp(t, appOf(id)), SETTING);
  return { fleet, m1: await start('m1'), m2: await start('m2') };
}

function request(
  machine: TestMachine,
  headers: Record<string, string> = {},
  path = '/',
): Promise<Response> {
  return fetch(machine.url + path, { headers, redirect: 'manual' });
}

/** The cookies of the response, in the form that a browser sends them. */
function cookieOf(response: Response): string {
  return response.headers
    .getSetCookie()
    .map((line) => line.split(';', 1)[0] ?? '')
    .join('; ');
}

async function bodyOf(response: Response): Promise<{ at: string; cookie?: string }> {
  assert.equal(response.status, 200);
  return (await response.json()) as { at: string; cookie?: string };
}

function undeliveredTo(machine: string): Record<string, string> {
  const failed = `instance=${machine};app=a;region=iad;replay_source=m2;reason=timeout;elapsed_ms=10`;
  return { 'fly-replay-failed': failed };
}

describe('a request without a session id', () => {
  test('is served by the Machine that receives it, and gets a cookie for that Machine', async (t) => {
    const { m1, m2 } = await startTwo(t);
    for (const machine of [m1, m2]) {
      const response = await request(machine);
      assert.match(cookieOf(response), new RegExp(`^aff=${machine.id}\\.[0-9a-z]+$`));
      assert.equal((await bodyOf(response)).at, machine.id);
    }
  });

  test('with the cookie of this Machine is served here, and gets no new cookie', async (t) => {
    const { m1 } = await startTwo(t);
    const cookie = cookieOf(await request(m1));
    const response = await request(m1, { cookie });
    assert.equal(cookieOf(response), '');
    assert.equal((await bodyOf(response)).at, 'm1');
  });

  test('with the cookie of another Machine is replayed there', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await request(m1));
    const response = await request(m2, { cookie });
    assert.match(response.headers.get('fly-replay') ?? '', /^instance=m1;/);
    assert.equal(cookieOf(response), '');
  });

  test('is forwarded over the private network if the edge could not deliver it', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await request(m1));
    const response = await request(m2, { cookie, ...undeliveredTo('m1') });
    assert.equal((await bodyOf(response)).at, 'm1');
  });

  test('returns 503 with Retry-After and keeps the cookie if its Machine is unresponsive', async (t) => {
    const { fleet, m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await request(m1));
    fleet.lines.get('m1')?.leadTo(undefined);
    const response = await request(m2, { cookie, ...undeliveredTo('m1') });
    assert.equal(response.status, 503);
    assert.equal(response.headers.get('retry-after'), '1');
    assert.equal(cookieOf(response), '');
  });

  test('with the cookie of an unknown Machine is replayed once, and then served here with a new cookie', async (t) => {
    const { m2 } = await startTwo(t);
    const cookie = 'aff=nobody.thz3f1';
    const first = await request(m2, { cookie });
    assert.match(first.headers.get('fly-replay') ?? '', /^instance=nobody;.*fallback=prefer_self/);
    const response = await request(m2, { cookie, ...undeliveredTo('nobody') });
    assert.match(cookieOf(response), /^aff=m2\./);
    assert.equal((await bodyOf(response)).at, 'm2');
  });

  test('loses the cookie of a Machine whose app is down, and is then replayed elsewhere', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await fleet.start('m1', await freePort(), SETTING);
    const response = await request(m1, { cookie: 'a=1; aff=m1.thz3f1' });
    assert.equal(response.status, 502);
    assert.deepEqual(response.headers.getSetCookie(), ['aff=; Path=/; Max-Age=0; SameSite=Lax']);
    const next = await request(m1, { cookie: 'a=1' });
    assert.match(next.headers.get('fly-replay') ?? '', /^elsewhere=true;/);
    const inSession = { cookie: 'aff=m1.thz3f1', 'mcp-session-id': 'abc~m1' };
    assert.deepEqual((await request(m1, inSession)).headers.getSetCookie(), []);
  });

  test('reaches the app with all cookies except this one', async (t) => {
    const { m1 } = await startTwo(t);
    const cookie = `a=1; ${cookieOf(await request(m1))}; b=2`;
    assert.equal((await bodyOf(await request(m1, { cookie }))).cookie, 'a=1; b=2');
  });

  test("gets the app's cookies and this one", async (t) => {
    const { m1 } = await startTwo(t);
    assert.match(cookieOf(await request(m1, {}, '/own')), /^theme=dark; aff=m1\./);
  });

  test('for a publicly cacheable response gets no cookie', async (t) => {
    const { m1 } = await startTwo(t);
    assert.equal(cookieOf(await request(m1, {}, '/logo.png')), '');
  });
});

test('a session id takes precedence over the cookie', async (t) => {
  const { m1, m2 } = await startTwo(t);
  const cookie = cookieOf(await request(m2));
  const opened = await request(m1, {}, '/open');
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' };
  const here = await request(m1, { cookie, ...session });
  assert.equal((await bodyOf(here)).at, 'm1');
  assert.equal(cookieOf(here), '');
});

test('a draining Machine serves clients with its cookie, and replays new clients elsewhere', async (t) => {
  const { m1 } = await startTwo(t);
  const cookie = cookieOf(await request(m1));
  const drained = m1.sidecar.drain();
  assert.equal((await bodyOf(await request(m1, { cookie }))).at, 'm1');
  assert.match((await request(m1)).headers.get('fly-replay') ?? '', /^elsewhere=true;/);
  await drained;
});

test('a WebSocket is replayed to the Machine of its cookie', async (t) => {
  const { m2 } = await startTwo(t);
  const headers = { connection: 'Upgrade', upgrade: 'websocket', cookie: 'aff=m1.thz3f1' };
  const upgrade = http.get(m2.url, { headers });
  const [response] = (await once(upgrade, 'response')) as [http.IncomingMessage];
  assert.match(String(response.headers['fly-replay']), /^instance=m1;/);
  response.resume();
});

test('the cookie is Secure over https', async (t) => {
  const { m1 } = await startTwo(t);
  const response = await request(m1, { 'x-forwarded-proto': 'https' });
  assert.match(response.headers.getSetCookie().join(), /; Secure;/);
});

test('without the setting the sidecar sets no cookie, and passes a received one to the app', async (t) => {
  const fleet = await openFleet(t, 'm1');
  const machine = await fleet.start('m1', await serveApp(t, appOf('m1')));
  const response = await request(machine, { cookie: 'aff=m2.thz3f1' });
  assert.equal(cookieOf(response), '');
  assert.equal((await bodyOf(response)).cookie, 'aff=m2.thz3f1');
});
