/** The words and sources of `SESSION_PROTOCOLS`, by what two sidecars do with them. */
import assert from 'node:assert/strict';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { until } from '../fleet/support.ts';
import { createTestClock } from '../support/clock.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

const IDS = ['m1', 'm2'];
const [HERE, THERE] = [idPlacedOn('m1', IDS), idPlacedOn('m2', IDS)];

type Respond = (req: IncomingMessage, res: ServerResponse) => void;

interface Two {
  readonly m1: TestMachine;
  readonly m2: TestMachine;
}

interface Options {
  readonly respond?: Respond;
  readonly env?: Record<string, string>;
  /** Of m1. */
  readonly clock?: Clock;
}

/** Without `respond`, the apps answer with their Machine. */
async function startTwo(t: TestContext, setting: string, options: Options = {}): Promise<Two> {
  const { respond, env = {}, clock = systemClock } = options;
  const fleet = await openFleet(t, ...IDS);
  const start = async (id: string): Promise<TestMachine> => {
    const app: RequestListener = (req, res) => {
      req.resume();
      if (respond) respond(req, res);
      else res.end(id);
    };
    const parts = id === 'm1' ? { clock } : {};
    return fleet.start(id, await serveApp(t, app), { SESSION_PROTOCOLS: setting, ...env }, parts);
  };
  const [m2, m1] = [await start('m2'), await start('m1')];
  await until(() => [m1, m2].every(({ sidecar }) => sidecar.readiness().fleet.silent === 0));
  return { m1, m2 };
}

const call = (to: TestMachine, path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(to.url + path, { redirect: 'manual', ...init });

const replayOf = (response: Response): string | undefined =>
  /^instance=(\w+);/.exec(response.headers.get('fly-replay') ?? '')?.[1];

const REJECT = { env: { UNKNOWN_SESSION: 'reject' } };
const POST = { method: 'POST' };

describe('by:', () => {
  for (const [setting, path, rows] of [
    ['query:a', `/?a=${HERE}`, 1],
    ['query:a by:app', `/?a=${HERE}`, 0],
    ['query:a by:either', `/?a=${HERE}`, 1],
    ['query:a from json:/id', `/?a=${HERE}`, 0],
    ['query:a from json:/id by:client', `/?a=${HERE}`, 1],
    ['query:a from json:/id by:either', `/?a=${HERE}`, 1],
  ] as const) {
    test(`"${setting}" ${rows === 1 ? 'binds' : 'does not bind'} an id of the client`, async (t) => {
      const { m1 } = await startTwo(t, setting);
      assert.equal(await (await call(m1, path)).text(), 'm1');
      assert.equal(await m1.rowCount(), rows);
    });
  }

  test('app: a client’s id is not sent to its place', async (t) => {
    const { m1 } = await startTwo(t, 'query:a by:app');
    assert.equal(await (await call(m1, `/?a=${THERE}`)).text(), 'm1');
    const { m1: other } = await startTwo(t, 'query:a');
    assert.equal(replayOf(await call(other, `/?a=${THERE}`)), 'm2');
  });
});

describe('ends:', () => {
  for (const [setting, rows] of [
    ['query:a', 1],
    ['query:a ends:expiry', 1],
    ['query:a ends:delete', 0],
    ['query:a from json:/id by:either ends:delete', 0],
  ] as const) {
    test(`with "${setting}" a DELETE ${rows === 0 ? 'ends' : 'does not end'} the session`, async (t) => {
      const { m1 } = await startTwo(t, setting);
      await call(m1, `/?a=${HERE}`);
      assert.equal(await m1.rowCount(), 1);
      await call(m1, `/?a=${HERE}`, { method: 'DELETE' });
      await until(async () => (await m1.rowCount()) === rows);
    });
  }

  test('expiry: a DELETE does not end a session of MCP', async (t) => {
    const respond: Respond = (_, res) => {
      res.writeHead(200, { 'mcp-session-id': 'abc' }).end();
    };
    for (const [setting, rows] of [
      ['mcp ends:expiry', 1],
      ['mcp', 0],
    ] as const) {
      const { m1 } = await startTwo(t, setting, { respond });
      const opened = await call(m1, '/', POST);
      const headers = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' };
      await call(m1, '/', { method: 'DELETE', headers });
      await until(async () => (await m1.rowCount()) === rows);
    }
  });
});

describe('unknown:', () => {
  for (const [word, status, type, body] of [
    ['', 404, 'application/problem+json', /"title":"Session not found"/],
    ['unknown:problem', 404, 'application/problem+json', /"title":"Session not found"/],
    ['unknown:mcp', 404, 'application/json', /"code":-32001.*"id":7/],
    ['unknown:socket.io', 400, 'application/json', /^\{"code":1,"message":"Session ID unknown"\}$/],
    ['unknown:webdriver', 404, 'application/json; charset=utf-8', /"error":"invalid session id"/],
  ] as const) {
    test(`"${word}" is the form of the error for an unknown session`, async (t) => {
      const { m1 } = await startTwo(t, `query:a by:app ${word}`, REJECT);
      const response = await call(m1, '/?a=b', { ...POST, body: '{"method":"m","id":7}' });
      assert.deepEqual([response.status, response.headers.get('content-type')], [status, type]);
      assert.match(await response.text(), body);
    });
  }
});

test('unknown:mcp names the request in a body that was read for its id', async (t) => {
  const { m1 } = await startTwo(t, 'body:/params/session by:app unknown:mcp', REJECT);
  const headers = { 'content-type': 'application/json' };
  const body = '{"method":"m","id":7,"params":{"session":"abc"}}';
  const response = await call(m1, '/', { ...POST, headers, body });
  assert.equal(response.status, 404);
  assert.match(await response.text(), /"id":7/);
});

test('soft: an unknown session is served by any Machine, also where others are rejected', async (t) => {
  const soft = await startTwo(t, 'query:a by:app soft', REJECT);
  assert.equal(await (await call(soft.m1, '/?a=b')).text(), 'm1');
  const hard = await startTwo(t, 'query:a by:app', REJECT);
  assert.equal((await call(hard.m1, '/?a=b')).status, 404);
});

/** Half of the time that an unused session stays bound. */
const FIVE_MINUTES_MS = 300_000;

async function firstText({ body }: Response): Promise<string> {
  assert.ok(body);
  const { value } = await (body as ReadableStream<Uint8Array>).getReader().read();
  return Buffer.from(value ?? []).toString();
}

const setCookie: Respond = (_, res) => {
  res.setHeader('set-cookie', 'sid=abc; Path=/');
  res.end();
};

const json = (res: ServerResponse, value: unknown): void => {
  res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
};

describe('from', () => {
  test('set-cookie: the id is that of the cookie, which stays as it is', async (t) => {
    const { m1, m2 } = await startTwo(t, 'query:s from set-cookie:sid', { respond: setCookie });
    const created = await call(m1, '/login');
    assert.deepEqual(created.headers.getSetCookie(), ['sid=abc; Path=/']);
    assert.equal(replayOf(await call(m2, '/?s=abc')), 'm1');
  });

  test('set-cookie of the same cookie: the id gets a hint', async (t) => {
    const { m1 } = await startTwo(t, 'cookie:sid from set-cookie:sid', { respond: setCookie });
    assert.deepEqual((await call(m1, '/')).headers.getSetCookie(), ['sid=abc~m1; Path=/']);
  });

  test('response-header: the id gets no hint', async (t) => {
    const respond: Respond = (_, res) => {
      res.setHeader('X-Job', 'abc');
      res.end();
    };
    const { m1, m2 } = await startTwo(t, 'header:x-id from response-header:X-Job', { respond });
    assert.equal((await call(m1, '/')).headers.get('x-job'), 'abc');
    assert.equal(replayOf(await call(m2, '/', { headers: { 'x-id': 'abc' } })), 'm1');
  });

  test('endpoint: the URL of the stream gets a hint, and its session ends with it', async (t) => {
    let isClosed = false;
    const respond: Respond = (_, res) => {
      res.on('close', () => (isClosed = true));
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write('event: endpoint\ndata: /post?token=abc\n\n');
    };
    const clock = createTestClock();
    const { m1, m2 } = await startTwo(t, 'query:token from endpoint', { respond, clock });
    const leaving = new AbortController();
    const stream = await call(m1, '/sse', { signal: leaving.signal });
    const text = await firstText(stream);
    assert.equal(text, 'event: endpoint\ndata: /post?token=abc~m1\n\n');
    assert.equal(replayOf(await call(m2, '/post?token=abc~m1', POST)), 'm1');
    assert.equal(await m1.rowCount(), 1);
    await clock.advance(FIVE_MINUTES_MS);
    assert.equal(await m1.rowCount(), 1, 'the stream is open');
    leaving.abort();
    // A second after a client has ended its side, its stream is ended.
    await until(async () => clock.advance(1_000).then(() => isClosed));
    await clock.advance(FIVE_MINUTES_MS);
    assert.equal(await m1.rowCount(), 0);
  });

  test('json, for an id in a body', async (t) => {
    const respond: Respond = (_, res) => json(res, { room: { id: 'abc' } });
    const { m1, m2 } = await startTwo(t, 'body:/room from json:/room/id', { respond });
    await call(m1, '/rooms', POST);
    const headers = { 'content-type': 'application/json' };
    const joined = await call(m2, '/join', { ...POST, headers, body: '{"room":"abc"}' });
    assert.equal(replayOf(joined), 'm1');
  });

  test('json, of two protocols in one list: each response reveals the id of its own', async (t) => {
    const respond: Respond = (req, res) =>
      json(res, req.url === '/rooms' ? { roomId: 'r1' } : { gameId: 'g1' });
    const setting = 'path:^/rooms/([^/]+) from json:/roomId,path:^/games/([^/]+) from json:/gameId';
    const { m1, m2 } = await startTwo(t, setting, { respond });
    await call(m1, '/rooms', POST);
    await call(m1, '/games', POST);
    assert.equal(replayOf(await call(m2, '/rooms/r1')), 'm1');
    assert.equal(replayOf(await call(m2, '/games/g1')), 'm1');
  });

  test('json, behind auto, where the URL is that of a preset too', async (t) => {
    const respond: Respond = (_, res) => json(res, { token: 'abc' });
    const setting = 'auto,path:^/api/sessions/([^/]+) from json:/token';
    const { m1, m2 } = await startTwo(t, setting, { respond });
    await call(m1, '/api/sessions', POST);
    assert.equal(replayOf(await call(m2, '/api/sessions/abc')), 'm1');
  });
});

test('behind auto, an id that a setting spells is one, whatever its shape', async (t) => {
  const { m1 } = await startTwo(t, 'auto,query:id');
  await call(m1, `/?id=${HERE}`);
  assert.equal(await m1.rowCount(), 1);
  const long = idPlacedOn('m2', IDS, 'zP3NrZ9eqOVhWvSpsNfH10').slice(0, 22);
  const placed = [long, ...Array.from({ length: 10 }, (_, i) => `zP3NrZ9eqOVhWvSpsNfHX${i}`)];
  const machines = new Set<string | undefined>();
  for (const id of placed) machines.add(replayOf(await call(m1, `/?id=${id}`)) ?? 'm1');
  assert.deepEqual([...machines].sort(), IDS);
});
