import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import type { EdgeOptions } from '../../src/simulator/edge.ts';
import { requestLine } from '../../src/simulator/records.ts';
import type { ReplayCacheRule } from '../../src/simulator/replay-cache.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import {
  sendRequest,
  replaying,
  startMachine,
  startTestEdge,
  startUnreachableMachine,
  type ScriptedMachine,
  type TestResponse,
  type TestEdge,
  type TestRequest,
} from './support.ts';

const BY_HEADER: ReplayCacheRule = {
  pathPrefix: '/',
  ttlSeconds: 60,
  type: 'header',
  name: 'Mcp-Session-Id',
};
const BY_COOKIE: ReplayCacheRule = {
  pathPrefix: '/app',
  ttlSeconds: 10,
  type: 'cookie',
  name: 'sid',
};

/** The target's report of a request. */
const reporting: RequestListener = (request, response) => {
  request.resume();
  const { 'fly-replay-cache-status': status, 'fly-replay-src': source } = request.headers;
  response.end(`${String(status)} ${source === undefined ? 'direct' : 'replayed'}`);
};

interface Stage {
  readonly clock: TestClock;
  readonly edge: TestEdge;
  readonly owner: ScriptedMachine;
  /** The report of the Machine that gets requests first. */
  origin: RequestListener;
  /** The hops of the requests so far: `a1 first, b2 replay`. */
  ways(): string[];
  /** Enters at the origin, unless the cache has an entry. */
  send(options?: TestRequest): Promise<TestResponse>;
}

/** `a1` gets the requests and replays them to `b2`. */
async function setStage(
  t: TestContext,
  options: Partial<EdgeOptions> = {},
  owner: RequestListener = reporting,
): Promise<Stage> {
  const clock = createTestClock();
  const a = await startMachine(t, 'a1', (request, response) => stage.origin(request, response));
  const b = await startMachine(t, 'b2', owner);
  // Only the first of them is in the region where every request starts.
  b.region = 'lhr';
  const edge = await startTestEdge(t, [a, b], { clock, ...options });
  const stage: Stage = {
    clock,
    edge,
    owner: b,
    origin: replaying('instance=b2'),
    ways: () =>
      edge.records.map(({ hops }) =>
        hops.map(({ machine, how }) => `${machine} ${how}`).join(', '),
      ),
    send: (options = {}) =>
      sendRequest(edge.url, {
        ...options,
        headers: { 'fly-prefer-region': 'iad', ...options.headers },
      }),
  };
  return stage;
}

const REPLAYED = 'a1 first, b2 replay';
const CACHED = 'b2 cached';
const session = (id: string): TestRequest => ({ headers: { 'mcp-session-id': id } });

test('a replay under a rule is cached: the next request of the session is sent there directly', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  assert.equal((await stage.send(session('s1'))).body, 'miss replayed');
  assert.equal((await stage.send(session('s1'))).body, 'hit direct');
  assert.equal((await stage.send(session('s2'))).body, 'miss replayed');
  assert.equal((await stage.send()).body, 'miss replayed');
  assert.deepEqual(stage.ways(), [REPLAYED, CACHED, REPLAYED, REPLAYED]);
  assert.deepEqual(
    stage.edge.records.map(({ replays }) => replays),
    [1, 0, 1, 1],
  );
  const lines = stage.edge.records.map(requestLine);
  assert.deepEqual(
    lines.map((line) => line.endsWith('from the replay cache')),
    [false, true, false, false],
  );
});

test('without a rule nothing is cached', async (t) => {
  const stage = await setStage(t);
  await stage.send(session('s1'));
  await stage.send(session('s1'));
  assert.deepEqual(stage.ways(), [REPLAYED, REPLAYED]);
});

test('a request that is not replayed has no header of the cache', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  stage.origin = reporting;
  assert.equal((await stage.send(session('s1'))).body, 'undefined direct');
});

test('an entry expires after its time since the replay, however often it is used', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  await stage.send(session('s1'));
  await stage.clock.advance(59_999);
  await stage.send(session('s1'));
  await stage.clock.advance(1);
  await stage.send(session('s1'));
  assert.deepEqual(stage.ways(), [REPLAYED, CACHED, REPLAYED]);
});

test('the longest rule that matches applies, and a path prefix ends at a slash', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER, BY_COOKIE] });
  const headers = { 'mcp-session-id': 's1', cookie: 'x=1; sid=c1' };
  await stage.send({ path: '/app/x', headers });
  await stage.send({ path: '/app?y', headers: { cookie: 'sid=c1' } });
  await stage.send({ path: '/apple', headers });
  await stage.send({ path: '/apple', headers });
  assert.deepEqual(stage.ways(), [REPLAYED, CACHED, REPLAYED, CACHED]);
});

test('hostnames share nothing, and a rule may name its own', async (t) => {
  const rule = { ...BY_HEADER, pathPrefix: 'one.example/' };
  const stage = await setStage(t, { replayCache: [rule] });
  for (const host of ['one.example', 'ONE.example:443', 'two.example', 'two.example']) {
    await stage.send({ headers: { 'mcp-session-id': 's1', host } });
  }
  assert.deepEqual(stage.ways(), [REPLAYED, CACHED, REPLAYED, REPLAYED]);
  const everywhere = await setStage(t, { replayCache: [BY_HEADER] });
  for (const host of ['one.example', 'two.example']) {
    await everywhere.send({ headers: { 'mcp-session-id': 's1', host } });
  }
  assert.deepEqual(everywhere.ways(), [REPLAYED, REPLAYED]);
});

for (const field of ['state=x', 'timeout=5s', 'fallback=prefer_self']) {
  test(`a replay with ${field} is not cached`, async (t) => {
    const stage = await setStage(t, { replayCache: [BY_HEADER] });
    stage.origin = replaying(`instance=b2;${field}`);
    await stage.send(session('s1'));
    await stage.send(session('s1'));
    assert.deepEqual(stage.ways(), [REPLAYED, REPLAYED]);
  });
}

test('a replay with a transform is not cached', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  stage.origin = (_request, response) => {
    response.setHeader('content-type', 'application/vnd.fly.replay+json');
    response.end('{"instance":"b2","transform":{"delete_headers":["x"]}}');
  };
  await stage.send(session('s1'));
  await stage.send(session('s1'));
  assert.deepEqual(stage.ways(), [REPLAYED, REPLAYED]);
});

/** Replays to `b2` and requests caching by path. */
function cachingPath(pattern: string, ttl: string, more: Record<string, string> = {}) {
  const options = { 'fly-replay-cache': pattern, 'fly-replay-cache-ttl-secs': ttl, ...more };
  const listener: RequestListener = (_request, response) => {
    response.writeHead(307, { 'fly-replay': 'instance=b2', ...options }).end();
  };
  return listener;
}

const PATH_PATTERNS: readonly [pattern: string, ttl: string, next: string, way: string][] = [
  ['/docs/*', '10', '/docs/other', CACHED],
  ['/docs/*', '10', '/docs', CACHED],
  ['/docs', '10', '/docs/a/b?c', CACHED],
  ['shop.example/docs/*', '10', '/docs/x', CACHED],
  ['/*', '10', '/anything', CACHED],
  ['/docs/*', '10', '/docsify', REPLAYED],
  ['/docs/*', '9', '/docs/1', REPLAYED],
  ['/docs/*', 'soon', '/docs/1', REPLAYED],
  ['/other/*', '10', '/other/1', REPLAYED],
  ['else.example/docs/*', '10', '/docs/1', REPLAYED],
];

for (const [pattern, ttl, next, way] of PATH_PATTERNS) {
  const outcome = way === CACHED ? 'is' : 'is not';
  test(`after /docs/1 requested ${pattern} for ${ttl} s, ${next} ${outcome} cached`, async (t) => {
    const stage = await setStage(t);
    stage.origin = cachingPath(pattern, ttl);
    const headers = { host: 'shop.example' };
    await stage.send({ path: '/docs/1', headers });
    await stage.send({ path: next, headers });
    assert.deepEqual(stage.ways(), [REPLAYED, way]);
  });
}

test('an entry by path expires, and the JSON form creates one too', async (t) => {
  const stage = await setStage(t);
  stage.origin = (_request, response) => {
    response.setHeader('content-type', 'application/vnd.fly.replay+json');
    response.end('{"instance":"b2","cache":{"prefix":"/docs/*","ttl":30,"allow_bypass":true}}');
  };
  await stage.send({ path: '/docs/1' });
  await stage.clock.advance(29_999);
  await stage.send({ path: '/docs/2' });
  const skip = { 'fly-replay-cache-control': 'skip' };
  assert.equal((await stage.send({ path: '/docs/2', headers: skip })).body, 'bypass replayed');
  await stage.clock.advance(30_000);
  await stage.send({ path: '/docs/3' });
  assert.deepEqual(stage.ways(), [REPLAYED, CACHED, REPLAYED, REPLAYED]);
});

test('a client bypasses the cache only where that is allowed', async (t) => {
  const headers = { 'mcp-session-id': 's1', 'fly-replay-cache-control': 'skip' };
  const strict = await setStage(t, { replayCache: [BY_HEADER] });
  await strict.send(session('s1'));
  assert.equal((await strict.send({ headers })).body, 'hit direct');
  const open = await setStage(t, { replayCache: [{ ...BY_HEADER, allowsBypass: true }] });
  await open.send(session('s1'));
  assert.equal((await open.send({ headers })).body, 'bypass replayed');
  assert.equal((await open.send(session('s1'))).body, 'hit direct', 'the entry still exists');
  const byPath = await setStage(t);
  byPath.origin = cachingPath('/*', '10', { 'fly-replay-cache-allow-bypass': 'yes' });
  await byPath.send();
  assert.equal((await byPath.send({ headers })).body, 'bypass replayed');
});

test('a client that forces a Machine gets it, whatever is cached', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  await stage.send(session('s1'));
  stage.origin = reporting;
  await stage.send({ headers: { 'mcp-session-id': 's1', 'fly-force-instance-id': 'a1' } });
  assert.deepEqual(stage.ways(), [REPLAYED, 'a1 first']);
});

for (const form of ['header', 'JSON'] as const) {
  test(`the target sends a request back and invalidates the entry, by ${form}`, async (t) => {
    const stage = await setStage(t, { replayCache: [BY_HEADER] }, (request, response) => {
      if (request.headers['fly-replay-cache-status'] !== 'hit') reporting(request, response);
      else if (form === 'header') {
        const headers = { 'fly-replay': 'instance=a1', 'fly-replay-cache': 'invalidate' };
        response.writeHead(307, headers).end();
      } else {
        response.setHeader('content-type', 'application/vnd.fly.replay+json');
        response.end('{"instance":"a1","cache":{"invalidate":true}}');
      }
    });
    await stage.send(session('s1'));
    stage.origin = reporting;
    assert.equal((await stage.send(session('s1'))).body, 'miss replayed');
    assert.equal((await stage.send(session('s1'))).body, 'undefined direct');
    assert.deepEqual(stage.ways(), [REPLAYED, 'b2 cached, a1 replay', 'a1 first']);
  });
}

test('a replay of a cached request without invalidate leaves the entry unchanged', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] }, (request, response) => {
    const isHit = request.headers['fly-replay-cache-status'] === 'hit';
    (isHit ? replaying('instance=a1') : reporting)(request, response);
  });
  await stage.send(session('s1'));
  stage.origin = reporting;
  await stage.send(session('s1'));
  await stage.send(session('s1'));
  const undone = 'b2 cached, a1 replay';
  assert.deepEqual(stage.ways(), [REPLAYED, undone, undone]);
});

test('a cached Machine that is gone: the entry is dropped and the request routed again', async (t) => {
  const stage = await setStage(t, { replayCache: [BY_HEADER] });
  await stage.send(session('s1'));
  stage.owner.state = 'destroyed';
  stage.origin = reporting;
  const posted = { ...session('s1'), method: 'POST', body: 'x' };
  assert.equal((await stage.send(posted)).body, 'undefined direct');
  stage.owner.state = 'started';
  assert.equal((await stage.send(session('s1'))).body, 'undefined direct');
});

test('a cached Machine that is gone: an error of the edge, where that is requested', async (t) => {
  const options = { replayCache: [BY_HEADER], unreachableCached: 'fail' } as const;
  const stage = await setStage(t, options);
  await stage.send(session('s1'));
  stage.owner.state = 'destroyed';
  assert.equal((await stage.send(session('s1'))).headers['fly-error'], 'PR02');
  stage.owner.state = 'started';
  assert.equal((await stage.send(session('s1'))).body, 'hit direct');
});

test('a cached Machine that refuses connections is dropped after the retries', async (t) => {
  const a = await startMachine(t, 'a1', (request, response) => {
    (requests++ === 0 ? replaying('instance=b2') : reporting)(request, response);
  });
  let requests = 0;
  const b = await startUnreachableMachine(t, 'b2');
  // Reachable for the one request that creates the entry.
  const door = createServer(reporting).listen(0, '127.0.0.1');
  await once(door, 'listening');
  const address = door.address();
  assert.ok(address !== null && typeof address === 'object');
  const machines = [a, { ...b, port: address.port }];
  const edge = await startTestEdge(t, machines, { replayCache: [BY_HEADER] });
  assert.equal((await sendRequest(edge.url, session('s1'))).body, 'miss replayed');
  door.closeAllConnections();
  door.close();
  await once(door, 'close');
  assert.equal((await sendRequest(edge.url, session('s1'))).body, 'undefined direct');
  assert.deepEqual(edge.records[1]?.hops, [{ machine: 'a1', how: 'first' }]);
});

test('a rule of less than ten seconds is rejected', async (t) => {
  const rule = { ...BY_HEADER, ttlSeconds: 9 };
  await assert.rejects(startTestEdge(t, [], { replayCache: [rule] }), /at least 10, got 9/);
});
