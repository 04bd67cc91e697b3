/** A browser sends a cookie as often as it has it: once a domain and a path (RFC 6265 §5.4). */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

/** Logs in at `/login`, and knows only its own sessions. */
async function startApp(t: TestContext, name: string): Promise<number> {
  let count = 0;
  const ids = new Set<string>();
  return serveApp(t, (req, res) => {
    if (req.url === '/logout') {
      ids.clear();
      res.setHeader('set-cookie', 'sid=; Path=/; Max-Age=0');
      res.end(name);
      return;
    }
    if (req.url === '/login') {
      const id = `${name}-${(count += 1)}`;
      ids.add(id);
      res.setHeader('set-cookie', `sid=${id}; Path=/`);
      res.end(name);
      return;
    }
    const sent = [...(req.headers.cookie ?? '').matchAll(/(?:^|; )sid=([^;]*)/g)];
    const isKnown = sent.some(([, id = '']) => ids.has(id));
    res.writeHead(isKnown ? 200 : 401).end(name);
  });
}

async function startTwo(
  t: TestContext,
  env: Record<string, string>,
): Promise<readonly [TestMachine, TestMachine]> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const protocols = { SESSION_PROTOCOLS: 'cookie:sid', ...env };
  return [
    await fleet.start('m1', await startApp(t, 'm1'), protocols),
    await fleet.start('m2', await startApp(t, 'm2'), protocols),
  ];
}

const call = (machine: TestMachine, path: string, cookie: string): Promise<Response> =>
  fetch(machine.url + path, { headers: cookie === '' ? {} : { cookie }, redirect: 'manual' });

async function logIn(machine: TestMachine, cookie = ''): Promise<string> {
  const response = await call(machine, '/login', cookie);
  assert.equal(response.status, 200);
  return response.headers.getSetCookie()[0]?.split(';')[0] ?? '';
}

for (const hints of ['true', 'false']) {
  const env = { SESSION_ID_HINTS: hints };

  test(`the first of several that has an owner is the session (hints ${hints})`, async (t) => {
    const [m1, m2] = await startTwo(t, env);
    const cookie = await logIn(m1);
    for (const sent of [`${cookie}; sid=older`, `sid=older; ${cookie}`]) {
      assert.equal((await call(m1, '/', sent)).status, 200);
      const elsewhere = await call(m2, '/', sent);
      assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
    }
  });

  test(`if no value has an owner, any Machine serves, and a new session is bound (hints ${hints})`, async (t) => {
    const [m1, m2] = await startTwo(t, env);
    assert.equal((await call(m1, '/', 'sid=a; sid=b')).status, 401);
    const cookie = await logIn(m1, 'sid=a; sid=b');
    const elsewhere = await call(m2, '/', `sid=a; sid=b; ${cookie}`);
    assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
  });

  test(`a session that has ended elsewhere is not preferred to a live one (hints ${hints})`, async (t) => {
    const [m1, m2] = await startTwo(t, env);
    const ended = await logIn(m2);
    assert.equal((await call(m2, '/logout', ended)).status, 200);
    const alive = await logIn(m1);
    const sent = `${ended}; ${alive}`;
    assert.equal((await call(m1, '/', sent)).status, 200);
    const elsewhere = await call(m2, '/', sent);
    assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
  });

  test(`while a Machine that may own one does not answer, none is given up (hints ${hints})`, async (t) => {
    const [m1, m2] = await startTwo(t, { ...env, UNKNOWN_SESSION: 'reject' });
    const cookie = await logIn(m1);
    await m1.sidecar.stop();
    const { status } = await call(m2, '/', `${cookie}; sid=older`);
    assert.ok(status === 503 || status === 307, String(status));
  });
}
