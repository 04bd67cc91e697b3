/** Browsers of an app without session ids: whole sidecars, and clients that keep a cookie. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

const SETTING = { AFFINITY_COOKIE: 'aff' };

/** Tells where it is, and which cookies it was shown. */
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

function visit(
  machine: TestMachine,
  headers: Record<string, string> = {},
  path = '/',
): Promise<Response> {
  return fetch(machine.url + path, { headers, redirect: 'manual' });
}

/** What a browser keeps of the answer's cookies. */
function cookieOf(answer: Response): string {
  return answer.headers
    .getSetCookie()
    .map((line) => line.split(';', 1)[0] ?? '')
    .join('; ');
}

async function bodyOf(answer: Response): Promise<{ at: string; cookie?: string }> {
  assert.equal(answer.status, 200);
  return (await answer.json()) as { at: string; cookie?: string };
}

function cameBackFrom(machine: string): Record<string, string> {
  const failed = `instance=${machine};app=a;region=iad;replay_source=m2;reason=timeout;elapsed_ms=10`;
  return { 'fly-replay-failed': failed };
}

describe('a request without a session id', () => {
  test('is served by whoever gets it, and its answer names that Machine', async (t) => {
    const { m1, m2 } = await startTwo(t);
    for (const machine of [m1, m2]) {
      const answer = await visit(machine);
      assert.match(cookieOf(answer), new RegExp(`^aff=${machine.id}\\.[0-9a-z]+$`));
      assert.equal((await bodyOf(answer)).at, machine.id);
    }
  });

  test('that brings the cookie of this Machine is served here, and the cookie is fresh', async (t) => {
    const { m1 } = await startTwo(t);
    const cookie = cookieOf(await visit(m1));
    const answer = await visit(m1, { cookie });
    assert.equal(cookieOf(answer), '');
    assert.equal((await bodyOf(answer)).at, 'm1');
  });

  test('that brings the cookie of another Machine is taken there', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await visit(m1));
    const answer = await visit(m2, { cookie });
    assert.match(answer.headers.get('fly-replay') ?? '', /^instance=m1;/);
    assert.equal(cookieOf(answer), '');
  });

  test('goes over the private network if the edge could not deliver it', async (t) => {
    const { m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await visit(m1));
    const answer = await visit(m2, { cookie, ...cameBackFrom('m1') });
    assert.equal((await bodyOf(answer)).at, 'm1');
  });

  test('is told to come again if its Machine is silent, and keeps its cookie', async (t) => {
    const { fleet, m1, m2 } = await startTwo(t);
    const cookie = cookieOf(await visit(m1));
    fleet.lines.get('m1')?.leadTo(undefined);
    const answer = await visit(m2, { cookie, ...cameBackFrom('m1') });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers.get('retry-after'), '1');
    assert.equal(cookieOf(answer), '');
  });

  test('that names a Machine of no fleet is replayed once, and then served here with a new cookie', async (t) => {
    const { m2 } = await startTwo(t);
    const cookie = 'aff=nobody.thz3f1';
    const first = await visit(m2, { cookie });
    assert.match(first.headers.get('fly-replay') ?? '', /^instance=nobody;.*fallback=prefer_self/);
    const answer = await visit(m2, { cookie, ...cameBackFrom('nobody') });
    assert.match(cookieOf(answer), /^aff=m2\./);
    assert.equal((await bodyOf(answer)).at, 'm2');
  });

  test('shows the app all cookies but this one', async (t) => {
    const { m1 } = await startTwo(t);
    const cookie = `a=1; ${cookieOf(await visit(m1))}; b=2`;
    assert.equal((await bodyOf(await visit(m1, { cookie }))).cookie, 'a=1; b=2');
  });

  test('gets the cookies of the app beside this one', async (t) => {
    const { m1 } = await startTwo(t);
    assert.match(cookieOf(await visit(m1, {}, '/own')), /^theme=dark; aff=m1\./);
  });

  test('for what a cache may hand to everybody gets no cookie', async (t) => {
    const { m1 } = await startTwo(t);
    assert.equal(cookieOf(await visit(m1, {}, '/logo.png')), '');
  });
});

test('a session id says more than the cookie', async (t) => {
  const { m1, m2 } = await startTwo(t);
  const cookie = cookieOf(await visit(m2));
  const opened = await visit(m1, {}, '/open');
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' };
  const here = await visit(m1, { cookie, ...session });
  assert.equal((await bodyOf(here)).at, 'm1');
  assert.equal(cookieOf(here), '');
});

test('a Machine that drains keeps its browsers, and sends new ones elsewhere', async (t) => {
  const { m1 } = await startTwo(t);
  const cookie = cookieOf(await visit(m1));
  const drained = m1.sidecar.drain();
  assert.equal((await bodyOf(await visit(m1, { cookie }))).at, 'm1');
  assert.match((await visit(m1)).headers.get('fly-replay') ?? '', /^elsewhere=true;/);
  await drained;
});

test('a WebSocket is taken where its cookie says, and gets one if it has none', async (t) => {
  const { m2 } = await startTwo(t);
  const headers = { connection: 'Upgrade', upgrade: 'websocket', cookie: 'aff=m1.thz3f1' };
  const request = http.get(m2.url, { headers });
  const [answer] = (await once(request, 'response')) as [http.IncomingMessage];
  assert.match(String(answer.headers['fly-replay']), /^instance=m1;/);
  answer.resume();
});

test('behind https the cookie is Secure', async (t) => {
  const { m1 } = await startTwo(t);
  const answer = await visit(m1, { 'x-forwarded-proto': 'https' });
  assert.match(answer.headers.getSetCookie().join(), /; Secure;/);
});

test("without the setting there is no cookie, and one that is brought is the app's", async (t) => {
  const fleet = await openFleet(t, 'm1');
  const machine = await fleet.start('m1', await serveApp(t, appOf('m1')));
  const answer = await visit(machine, { cookie: 'aff=m2.thz3f1' });
  assert.equal(cookieOf(answer), '');
  assert.equal((await bodyOf(answer)).cookie, 'aff=m2.thz3f1');
});
