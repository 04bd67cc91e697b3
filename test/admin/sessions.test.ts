/** `/sessions` of the admin listener, over real connections. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Admin } from '../../src/admin/admin.ts';
import type { Binding } from '../../src/session.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { StoreError, type SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import type { MemoryLog } from '../support/log.ts';
import { openRawClient } from '../support/raw.ts';
import { AUTHORIZED, openAdmin, TOKEN } from './support.ts';

const A = machineId('a1');
const B = machineId('b2');
const HEAD = '{"format":"fly-affinity-sessions","version":1}';
const TTL_MS = 60_000;

interface Opened {
  readonly admin: Admin;
  readonly url: string;
  readonly clock: TestClock;
  readonly store: SessionStore;
  readonly log: MemoryLog;
  /** With the token. */
  readonly send: (target: string, init?: RequestInit) => Promise<Response>;
}

async function open(t: TestContext, changes: Partial<SessionStore> = {}): Promise<Opened> {
  const clock = createTestClock();
  const limits = { maxSessions: 1_000_000, maxAgeMs: 0 };
  const memory = createMemoryStore({ clock, limits });
  const store = { ...memory, ...changes };
  const { admin, url, log } = await openAdmin(t, { store, clock });
  const send: Opened['send'] = (target, init = {}) =>
    fetch(url + target, { ...init, headers: AUTHORIZED });
  return { admin, url, clock, store, log, send };
}

function bind(store: SessionStore, id: string, machine = A): Promise<Binding> {
  return store.claim({ key: keyOf(id), machine, origin: 'learned', ttlMs: TTL_MS });
}

function bindingElsewhere(clock: TestClock): Promise<Binding> {
  const limits = { maxSessions: 1, maxAgeMs: 0 };
  return bind(createMemoryStore({ clock, limits }), 'elsewhere');
}

async function* endlessly(expiresAt: number): AsyncGenerator<Binding> {
  for (let i = 0; ; i += 1) {
    // Yields to other work, as every store does.
    if (i % 100 === 0) await nextTurn();
    const created = { origin: 'learned', generation: 1, createdAt: 0 } as const;
    yield { key: keyOf(`endless-${i}`), machine: A, expiresAt, ...created };
  }
}

function post(body: string | ReadableStream): RequestInit {
  return { method: 'POST', body, ...(typeof body !== 'string' && { duplex: 'half' }) };
}

function lineOf({ key, machine, ...rest }: Binding): string {
  const { origin, generation, createdAt, expiresAt } = rest;
  return JSON.stringify({ key, owner: machine, origin, generation, createdAt, expiresAt });
}

for (const [name, headers] of [
  ['no token', {}],
  ['a wrong token', { authorization: 'Bearer another-token-than-that' }],
  ['a prefix of the token', { authorization: `Bearer ${TOKEN.slice(0, -1)}` }],
  ['the token under another scheme', { authorization: `Basic ${TOKEN}` }],
] as const) {
  test(`${name} gets 401, whatever the request`, async (t) => {
    const { url, store } = await open(t);
    const { key } = await bind(store, 'one');
    for (const [method, target] of [
      ['GET', '/sessions'],
      ['POST', '/sessions'],
      ['GET', `/sessions/${key}`],
      ['DELETE', `/sessions/${key}`],
      ['PUT', '/sessions/'],
    ] as const) {
      const response = await fetch(url + target, { method, headers });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get('www-authenticate'), 'Bearer');
      assert.ok(!(await response.text()).includes(key));
    }
    assert.notEqual(store.lookup(key), 'absent');
  });
}

test('the scheme of the token is case-insensitive', async (t) => {
  const { url } = await open(t);
  const headers = { authorization: `bearer ${TOKEN}` };
  assert.equal((await fetch(`${url}/sessions`, { headers })).status, 200);
});

test('a client that guesses tokens causes one log line per minute, with a count', async (t) => {
  const { url, clock, log } = await open(t);
  for (let i = 0; i < 5; i += 1) await fetch(`${url}/sessions`);
  await clock.advance(60_000);
  await fetch(`${url}/sessions`);
  assert.deepEqual(
    log.lines.map(({ fields }) => (fields as { refusedCount: number }).refusedCount),
    [1, 6],
  );
});

test('other paths require no token', async (t) => {
  const { url } = await open(t);
  assert.equal((await fetch(`${url}/livez`)).status, 200);
  assert.equal((await fetch(`${url}/sessionsX`)).status, 404);
});

test('GET /sessions is a whole export', async (t) => {
  const { send, store } = await open(t);
  const lines = [lineOf(await bind(store, 'one')), lineOf(await bind(store, 'two', B))];
  const response = await send('/sessions');
  assert.equal(response.headers.get('content-type'), 'application/x-ndjson');
  const end = '{"end":"fly-affinity-sessions","sessions":2}';
  assert.equal(await response.text(), `${[HEAD, ...lines, end].join('\n')}\n`);
});

test('owner and limit filter the sessions', async (t) => {
  const { send, store } = await open(t);
  for (const id of ['1', '2', '3']) await bind(store, id);
  await bind(store, '4', B);
  const count = async (target: string): Promise<number> => {
    const text = await (await send(target)).text();
    return text.split('\n').filter((line) => line.startsWith('{"key"')).length;
  };
  assert.equal(await count('/sessions?owner=a1'), 3);
  assert.equal(await count('/sessions?owner=b2'), 1);
  assert.equal(await count('/sessions?owner=c3'), 0);
  assert.equal(await count('/sessions?limit=2&owner=a1'), 2);
  assert.equal(await count('/sessions?limit=0'), 0);
});

test('GET /sessions/KEY returns that session, or 404', async (t) => {
  const { send, store } = await open(t);
  const binding = await bind(store, 'one');
  const response = await send(`/sessions/${binding.key}`);
  assert.equal(await response.text(), `${lineOf(binding)}\n`);
  assert.equal((await send(`/sessions/${keyOf('other')}`)).status, 404);
});

test('DELETE /sessions/KEY ends that session in the store of the sidecar', async (t) => {
  const { send, store } = await open(t);
  const { key } = await bind(store, 'one');
  const of = (target: string): Promise<Response> => send(target, { method: 'DELETE' });
  assert.equal((await of(`/sessions/${key}?if-owner=b2`)).status, 404);
  // Text after a second question mark is a condition as well.
  assert.equal((await of(`/sessions/${key}??if-owner=b2`)).status, 404);
  assert.notEqual(store.lookup(key), 'absent');
  assert.equal((await of(`/sessions/${key}?if-owner=a1`)).status, 204);
  assert.equal(store.lookup(key), 'absent');
  assert.equal((await of(`/sessions/${key}`)).status, 404);
});

for (const [method, target, status] of [
  ['GET', '/sessions?limit=-1', 400],
  ['GET', '/sessions?limit=1&limit=2', 400],
  ['GET', '/sessions?owner=A_1', 400],
  ['GET', '/sessions?onwer=a1', 400],
  ['POST', '/sessions?dry-run=yes', 400],
  ['DELETE', `/sessions/${keyOf('one')}?if_owner=b2`, 400],
  ['GET', '/sessions/my-secret-id', 400],
  ['GET', '/sessions/', 400],
  ['PUT', '/sessions', 405],
  ['POST', `/sessions/${keyOf('one')}`, 405],
] as const) {
  test(`${method} ${target} returns ${status}, and changes nothing`, async (t) => {
    const { send, store } = await open(t);
    await bind(store, 'one');
    const response = await send(target, { method });
    assert.equal(response.status, status);
    const { error } = (await response.json()) as { error: string };
    assert.ok(!error.includes('secret'));
    assert.notEqual(store.lookup(keyOf('one')), 'absent');
  });
}

test('an export is imported unchanged, and a second import changes nothing', async (t) => {
  const [from, to] = [await open(t), await open(t)];
  for (const id of ['1', '2', '3']) await bind(from.store, id);
  const moved = await from.store.rebind(keyOf('3'), A, B, 'adopted', TTL_MS);
  await Promise.all([from.clock.advance(1_000), to.clock.advance(1_000)]);
  const text = await (await from.send('/sessions')).text();
  const first = await to.send('/sessions', post(text));
  assert.equal(first.status, 200);
  const nothing = { imported: 0, alreadyThere: 0, expired: 0, conflicts: 0, bad: 0, badLines: [] };
  const ended = { kind: 'complete' };
  assert.deepEqual(await first.json(), { ...nothing, imported: 3, ended });
  assert.deepEqual(to.store.lookup(keyOf('3')), moved);
  const second = await to.send('/sessions', post(text));
  assert.deepEqual(await second.json(), { ...nothing, alreadyThere: 3, ended });
});

test('a dry run reports what an import would do, and changes nothing', async (t) => {
  const { send, store, clock } = await open(t);
  const binding = await bind(store, 'one');
  await store.delete(binding.key);
  const text = `${HEAD}\n${lineOf(binding)}\n{"end":"fly-affinity-sessions","sessions":1}\n`;
  const response = await send('/sessions?dry-run=true', post(text));
  assert.equal(((await response.json()) as { imported: number }).imported, 1);
  assert.equal(store.lookup(binding.key), 'absent');
  assert.ok(binding.expiresAt > clock.now());
});

test('a bad line is named, the good ones are imported, and the status is 422', async (t) => {
  const { send, store } = await open(t);
  const binding = await bind(store, 'one');
  await store.delete(binding.key);
  const bad = lineOf(binding).replace(binding.key, 'my-secret-id');
  const text = `${HEAD}\n${bad}\n${lineOf(binding)}\n{"end":"fly-affinity-sessions","sessions":2}\n`;
  const response = await send('/sessions', post(text));
  assert.equal(response.status, 422);
  const problem = 'key must be 32 digits of 0-9 and a-f, got a string of 12 characters';
  const summary = (await response.json()) as object;
  assert.deepEqual(
    { ...summary, ended: undefined },
    {
      ...{ imported: 1, alreadyThere: 0, expired: 0, conflicts: 0 },
      ...{ bad: 1, badLines: [{ line: 2, problem }], ended: undefined },
    },
  );
  assert.deepEqual(store.lookup(binding.key), binding);
});

test('an invalid export gets its response, however much of its body is still missing', async (t) => {
  const { send } = await open(t);
  let sent = 0;
  const body = new ReadableStream({
    pull: (controller) => {
      const line = sent === 0 ? HEAD.replace('1}', '2}') : 'x'.repeat(100_000);
      controller.enqueue(Buffer.from(`${line}\n`));
      sent += 1;
      if (sent === 100) controller.close();
    },
  });
  const response = await send('/sessions', post(body));
  assert.equal(response.status, 422);
  const { ended } = (await response.json()) as { ended: { line: number; problem: string } };
  assert.equal(ended.line, 1);
  assert.match(ended.problem, /has version 2, but this fly-affinity reads version 1/);
});

test('a store that fails causes a 503 without internal details, and a log line', async (t) => {
  const failing = (): Promise<never> =>
    Promise.reject(new StoreError('fatal', 'inside', { cause: new Error('inside') }));
  const { send, log } = await open(t, {
    delete: failing,
    upsert: failing,
    entries: async function* () {
      await failing();
    },
  });
  const line = '{"key":"00000000000000000000000000000000","owner":"a1","origin":"learned",';
  const text = `${HEAD}\n${line}"generation":1,"createdAt":0,"expiresAt":8640000000000000}\n`;
  for (const [target, init] of [
    ['/sessions', { method: 'GET' }],
    [`/sessions/${keyOf('one')}`, { method: 'DELETE' }],
    ['/sessions', post(text)],
  ] as const) {
    const response = await send(target, init);
    assert.equal(response.status, 503);
    assert.ok(!(await response.text()).includes('inside'));
  }
  assert.equal(log.messages('warn').length, 3);
});

test('a walk that fails halfway aborts the response, which does not end as if complete', async (t) => {
  const { send, log } = await open(t, {
    entries: async function* () {
      let count = 0;
      for await (const binding of endlessly(1)) {
        if ((count += 1) > 1_000) throw new StoreError('passing', 'connection lost');
        yield binding;
      }
    },
  });
  const response = await send('/sessions');
  assert.equal(response.status, 200);
  await assert.rejects(response.text());
  assert.equal(log.messages('warn').length, 1);
});

/** An endless walk that reports its end. */
function watchedWalk() {
  const ended = Promise.withResolvers<undefined>();
  let count = 0;
  async function* entries(): AsyncGenerator<Binding> {
    try {
      for await (const binding of endlessly(1)) {
        count += 1;
        yield binding;
      }
    } finally {
      ended.resolve(undefined);
    }
  }
  return { entries, ended: ended.promise, count: () => count };
}

/** Sends a request and reads nothing: then all that can be in flight is in buffers. */
async function sendAndReadNothing(t: TestContext, url: string, target: string) {
  const request = httpRequest(url + target, { headers: AUTHORIZED });
  // As it reads nothing, it does not detect the end of the other side either.
  t.after(() => request.destroy());
  request.on('error', () => undefined);
  request.end();
  const [response] = (await once(request, 'response')) as [NodeJS.EventEmitter];
  response.on('error', () => undefined);
  return request;
}

/** Resolves once nothing changes from one turn to the next ones. */
async function untilStill(count: () => number): Promise<number> {
  for (let still = 0, last = -1; still < 50;) {
    await nextTurn();
    still = count() === last ? still + 1 : 0;
    last = count();
  }
  return count();
}

test('a client that does not read pauses the walk; it uses no memory', async (t) => {
  const walk = watchedWalk();
  const { url } = await open(t, { entries: walk.entries });
  const request = await sendAndReadNothing(t, url, '/sessions');
  const count = await untilStill(walk.count);
  assert.ok(count < 100_000, `${count} sessions were read ahead`);
  request.destroy();
  await walk.ended;
});

test('a client that reads nothing for minutes is disconnected', async (t) => {
  const walk = watchedWalk();
  const { url, clock } = await open(t, { entries: walk.entries });
  await sendAndReadNothing(t, url, '/sessions');
  await untilStill(walk.count);
  await clock.advance(300_000);
  await walk.ended;
  assert.equal(clock.pendingCount(), 0);
});

test('a client that disconnects ends a walk that finds nothing for it', async (t) => {
  const walk = watchedWalk();
  const { url } = await open(t, { entries: walk.entries });
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const head = `GET /sessions?owner=nobody HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\n`;
  socket.write(`${head}\r\n`);
  while (walk.count() === 0) await nextTurn();
  socket.destroy();
  await walk.ended;
});

test('stopping aborts a walk and an import in progress, and waits until they have ended', async (t) => {
  const walk = watchedWalk();
  const { admin, url, clock } = await open(t, { entries: walk.entries });
  await sendAndReadNothing(t, url, '/sessions');
  const upload = httpRequest(`${url}/sessions`, { method: 'POST', headers: AUTHORIZED });
  upload.on('error', () => undefined);
  upload.write(`${HEAD}\n`);
  await untilStill(walk.count);
  // Each waits for its other side, with a time limit.
  assert.equal(clock.pendingCount(), 2);
  await admin.stop();
  assert.equal(clock.pendingCount(), 0);
  await walk.ended;
});

test('stopping does not wait for a store that does not respond', async (t) => {
  const { admin, url, clock } = await open(t, { lookup: () => 'unknown' });
  const upload = httpRequest(`${url}/sessions`, { method: 'POST', headers: AUTHORIZED });
  upload.on('error', () => undefined);
  upload.end(`${HEAD}\n${lineOf(await bindingElsewhere(clock))}\n`);
  // The pause before the next try.
  while (clock.pendingCount() === 0) await nextTurn();
  await untilStill(() => clock.pendingCount());
  await admin.stop();
  assert.equal(clock.pendingCount(), 0);
});

test('an upload that stalls for minutes is disconnected', async (t) => {
  const { url, clock } = await open(t);
  const upload = httpRequest(`${url}/sessions`, { method: 'POST', headers: AUTHORIZED });
  const failed = once(upload, 'error');
  upload.write(`${HEAD}\n`);
  while (clock.pendingCount() === 0) await nextTurn();
  await clock.advance(300_000);
  await failed;
  assert.equal(clock.pendingCount(), 0);
});

test('a request does not wait for a body that is not needed', async (t) => {
  const { admin } = await open(t);
  for (const target of ['/metrics', '/sessions']) {
    const client = await openRawClient(admin.port);
    client.send(`POST ${target} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n`);
    assert.match(await client.untilClosed(), /\r\nconnection: close\r\n/i);
  }
});
