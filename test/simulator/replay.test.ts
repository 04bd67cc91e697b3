import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseReplayFailure, parseReplaySource } from '../../src/fly.ts';
import { createTestClock } from '../support/clock.ts';
import {
  sendRequest,
  naming,
  replaying,
  startMachine,
  startTestEdge,
  startUnreachableMachine,
} from './support.ts';

test('a replay delivers the complete request, and discards the replaying response', async (t) => {
  const startedAt = Date.now();
  const a = await startMachine(t, 'a1', replaying('instance=b2;state=s-7'), { region: 'fra' });
  const b = await startMachine(t, 'b2', (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      const { method, url, headers } = request;
      const body = Buffer.concat(chunks).toString();
      response.writeHead(201).end(JSON.stringify({ method, url, headers, body }));
    });
  });
  const edge = await startTestEdge(t, [a, b]);
  const headers = { 'x-own': 'kept', 'fly-replay-src': 'instance=forged' };
  const sent = { method: 'POST', path: '/x?y=%20z', headers, body: 'hello' };
  const response = await sendRequest(edge.url, sent);
  assert.equal(response.status, 201);
  assert.equal(response.headers['fly-replay'], undefined);
  const seen = JSON.parse(response.body) as {
    method: string;
    url: string;
    headers: Record<string, string>;
    body: string;
  };
  assert.deepEqual([seen.method, seen.url, seen.body], ['POST', '/x?y=%20z', 'hello']);
  assert.equal(seen.headers['x-own'], 'kept');
  assert.equal(seen.headers['fly-replay-cache-status'], 'miss');
  const source = parseReplaySource(seen.headers['fly-replay-src'] ?? '');
  assert.equal(source.instance, 'a1');
  assert.equal(source.region, 'fra');
  assert.equal(source.state, 's-7');
  const sentAt = (source.timestampMicros ?? 0) / 1_000;
  assert.ok(startedAt <= sentAt && sentAt <= Date.now(), `${sentAt}`);
});

test('a body of a megabyte is replayed, one byte more is an error', async (t) => {
  const a = await startMachine(t, 'a1', replaying('instance=b2'));
  let received = 0;
  const b = await startMachine(t, 'b2', (request, response) => {
    request.on('data', (chunk: Buffer) => (received += chunk.length));
    request.once('end', () => response.end('all'));
  });
  const edge = await startTestEdge(t, [a, b]);
  const post = (bytes: number, headers = {}): ReturnType<typeof sendRequest> => {
    edge.setSpread('round-robin');
    return sendRequest(edge.url, { method: 'POST', body: Buffer.alloc(bytes), headers });
  };
  assert.equal((await post(1_000_000)).body, 'all');
  assert.equal(received, 1_000_000);
  assert.equal((await post(1_000_001)).headers['fly-error'], 'PA01');
  assert.equal((await post(1_000_000, { 'transfer-encoding': 'chunked' })).body, 'all');
  const tooLarge = await post(1_000_001, { 'transfer-encoding': 'chunked' });
  assert.equal(tooLarge.status, 502);
  assert.equal(tooLarge.headers['fly-error'], 'PA01');
});

test('ten replays are followed, the eleventh is PA02', async (t) => {
  let left = 10;
  const machine = await startMachine(t, 'a1', (request, response) => {
    if (left > 0) replaying('instance=a1')(request, response);
    else naming('a1')(request, response);
    left -= 1;
  });
  const edge = await startTestEdge(t, [machine]);
  assert.equal((await sendRequest(edge.url)).body, 'a1');
  left = 11;
  const response = await sendRequest(edge.url);
  assert.equal(response.headers['fly-error'], 'PA02');
  assert.equal(edge.records[1]?.error, 'PA02');
  assert.equal(edge.records[1].replays, 10);
});

test('a replay to a Machine that does not exist is PR02, to an app that does not PA04', async (t) => {
  let value = 'instance=c3';
  const machine = await startMachine(t, 'a1', (request, response) =>
    replaying(value)(request, response),
  );
  const edge = await startTestEdge(t, [machine]);
  assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PR02');
  value = 'app=other';
  assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PA04');
  value = 'nonsense';
  assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PA03');
});

test('elsewhere goes to another Machine, region to one of that region, app to one of the app', async (t) => {
  let value = '';
  const a = await startMachine(
    t,
    'a1',
    (request, response) => replaying(value)(request, response),
    { region: 'iad' },
  );
  const b = await startMachine(t, 'b2', naming('b2'), { region: 'lhr' });
  const c = await startMachine(t, 'c3', naming('c3'), { region: 'nrt' });
  const other = await startMachine(t, 'd4', naming('d4'), { app: 'other' });
  const edge = await startTestEdge(t, [a, b, c, other]);
  const servedWith = async (fields: string): Promise<string> => {
    value = fields;
    return (await sendRequest(edge.url, { headers: { 'fly-force-instance-id': 'a1' } })).body;
  };
  assert.notEqual(await servedWith('elsewhere=true'), 'a1');
  assert.equal(await servedWith('region=nrt'), 'c3');
  assert.equal(await servedWith('region="xxx,lhr"'), 'b2');
  assert.match(await servedWith('region="xxx,any";elsewhere=true'), /^(b2|c3)$/);
  assert.equal(await servedWith('app=other'), 'd4');
  assert.match(await servedWith('region=xxx'), /^PR04/);
});

test('prefer_instance falls back to another Machine, with a header that reports it', async (t) => {
  const a = await startMachine(t, 'a1', replaying('prefer_instance=c3;elsewhere=true'));
  const b = await startMachine(t, 'b2', (request, response) => {
    response.end(String(request.headers['fly-preferred-instance-unavailable']));
  });
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url)).body, 'c3');
});

test('fallback=force_self brings the request back with the reason, but only once', async (t) => {
  const b = await startUnreachableMachine(t, 'b2');
  const seen: (string | undefined)[] = [];
  let replaysAgain = false;
  const a = await startMachine(t, 'a1', (request, response) => {
    const failed = request.headers['fly-replay-failed']?.toString();
    seen.push(failed);
    if (failed === undefined || replaysAgain) {
      replaying('instance=b2;timeout=10s;fallback=force_self')(request, response);
    } else naming('back at a1')(request, response);
  });
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url, { method: 'POST', body: 'hello' })).body, 'back at a1');
  const failure = parseReplayFailure(seen[1] ?? '');
  assert.equal(failure.instance, 'b2');
  assert.equal(failure.app, 'shop');
  assert.equal(failure.replaySource, 'a1');
  assert.equal(failure.reason, 'retries_exhausted');
  assert.ok((failure.elapsedMs ?? 0) >= 5);
  assert.deepEqual(edge.records[0]?.hops, [
    { machine: 'a1', how: 'first' },
    { machine: 'a1', how: 'fallback' },
  ]);
  replaysAgain = true;
  edge.setSpread('round-robin');
  assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PA03');
});

test('a fallback reports a timeout or a missing target', async (t) => {
  const b = await startUnreachableMachine(t, 'b2');
  let value = '';
  const a = await startMachine(t, 'a1', (request, response) => {
    const failed = request.headers['fly-replay-failed']?.toString();
    if (failed === undefined) replaying(value)(request, response);
    else response.end(parseReplayFailure(failed).reason);
  });
  const edge = await startTestEdge(t, [a, b], { retries: { count: 1000, delayMs: 10 } });
  const reasonWith = async (fields: string): Promise<string> => {
    value = fields;
    return (await sendRequest(edge.url, { headers: { 'fly-force-instance-id': 'a1' } })).body;
  };
  assert.equal(await reasonWith('instance=b2;timeout=30ms;fallback=force_self'), 'timeout');
  assert.equal(await reasonWith('instance=c3;timeout=30ms;fallback=prefer_self'), 'no_candidate');
});

test('fallback=prefer_self goes to another Machine when the first is gone, force_self does not', async (t) => {
  let value = 'instance=c3;timeout=1s;fallback=prefer_self';
  const a = await startMachine(t, 'a1', (request, response) => {
    a.state = 'destroyed';
    replaying(value)(request, response);
  });
  const b = await startMachine(t, 'b2', naming('b2'));
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url)).body, 'b2');
  a.state = 'started';
  value = 'instance=c3;timeout=1s;fallback=force_self';
  edge.setSpread('round-robin');
  assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PR02');
});

test('an unreachable target without fallback is an error after the retries', async (t) => {
  const a = await startMachine(t, 'a1', replaying('instance=b2'));
  const b = await startUnreachableMachine(t, 'b2');
  const edge = await startTestEdge(t, [a, b]);
  const response = await sendRequest(edge.url);
  assert.equal(response.status, 503);
  assert.equal(response.headers['fly-error'], 'PR03');
});

test('a replay starts a stopped Machine, a first hop only if no other runs', async (t) => {
  const a = await startMachine(t, 'a1', replaying('instance=b2'));
  const b = await startMachine(t, 'b2', naming('b2'), { state: 'suspended' });
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url)).body, 'b2');
  assert.deepEqual([edge.records[0]?.first, b.wakeCount], ['a1', 1]);
  a.state = 'stopped';
  b.state = 'suspended';
  assert.equal((await sendRequest(edge.url)).body, 'b2');
  assert.deepEqual([a.wakeCount, b.wakeCount], [0, 2]);
});

test('the JSON form replays too, and may transform the request', async (t) => {
  const a = await startMachine(t, 'a1', (_request, response) => {
    response.setHeader('content-type', 'application/vnd.fly.replay+json');
    response.end(
      JSON.stringify({
        instance: 'b2',
        state: 'x',
        transform: {
          path: '/new?p=1',
          delete_headers: ['Cookie'],
          set_headers: [{ name: 'X-Set', value: 'yes' }],
        },
      }),
    );
  });
  const b = await startMachine(t, 'b2', (request, response) => {
    const { cookie, 'x-set': set } = request.headers;
    response.end(JSON.stringify([request.url, cookie ?? null, set]));
  });
  const edge = await startTestEdge(t, [a, b]);
  const response = await sendRequest(edge.url, { headers: { cookie: 'a=b' } });
  assert.deepEqual(JSON.parse(response.body), ['/new?p=1', null, 'yes']);
});

test('an invalid JSON form is PA03', async (t) => {
  let body = '';
  const a = await startMachine(t, 'a1', (_request, response) => {
    response.setHeader('content-type', 'application/vnd.fly.replay+json').end(body);
  });
  const edge = await startTestEdge(t, [a]);
  for (body of ['{', '[]', 'null', '{"state":"x"}', '{"instance":7}']) {
    assert.equal((await sendRequest(edge.url)).headers['fly-error'], 'PA03', body);
  }
});

test('the JSON form has timeout and fallback', async (t) => {
  const a = await startMachine(t, 'a1', (request, response) => {
    const failed = request.headers['fly-replay-failed']?.toString();
    if (failed !== undefined) {
      response.end(parseReplayFailure(failed).reason);
      return;
    }
    response.setHeader('content-type', 'application/vnd.fly.replay+json');
    response.end('{"instance":"b2","timeout":"20ms","fallback":"force_self"}');
  });
  const b = await startUnreachableMachine(t, 'b2');
  const edge = await startTestEdge(t, [a, b], { retries: { count: 1000, delayMs: 5 } });
  const headers = { 'fly-force-instance-id': 'a1' };
  assert.equal((await sendRequest(edge.url, { headers })).body, 'timeout');
});

const RECENTLY_STOPPED: readonly [minutesAgo: number, isOn: boolean, served: string][] = [
  [4, true, 'c3'],
  [5, true, 'b2'],
  [4, false, 'b2'],
];

for (const [minutesAgo, isOn, served] of RECENTLY_STOPPED) {
  const policy = isOn ? 'PM11' : 'no PM11';
  test(`with ${policy}, a request that prefers a Machine that stopped ${minutesAgo} minutes ago gets ${served}`, async (t) => {
    const clock = createTestClock();
    const b = await startMachine(t, 'b2', naming('b2'), { state: 'stopped' });
    b.stoppedAt = clock.now() - minutesAgo * 60_000;
    const machines = [b, await startMachine(t, 'c3', naming('c3'))];
    const edge = await startTestEdge(t, machines, { clock, passesOverRecentlyStopped: isOn });
    assert.equal(
      (await sendRequest(edge.url, { headers: { 'fly-prefer-instance-id': 'b2' } })).body,
      served,
    );
  });
}

test('with PM11, a recently stopped Machine gets requests that no other can serve', async (t) => {
  const clock = createTestClock();
  const a = await startMachine(t, 'a1', replaying('instance=b2'));
  const b = await startMachine(t, 'b2', naming('b2'), { state: 'stopped' });
  b.stoppedAt = clock.now();
  const edge = await startTestEdge(t, [a, b], { clock, passesOverRecentlyStopped: true });
  assert.equal((await sendRequest(edge.url)).body, 'b2');
});
