import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseReplayFailure } from '../../src/fly.ts';
import type { EdgeOptions } from '../../src/simulator/edge.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import {
  sendRequest,
  naming,
  replaying,
  startMachine,
  startTestEdge,
  type TestEdge,
} from './support.ts';

/** Sends a head immediately, and its id when the test releases it. */
interface Holding {
  readonly listener: RequestListener;
  /** Ends the oldest open response. */
  release(): void;
}

function holding(id: string): Holding {
  const open: (() => void)[] = [];
  return {
    listener: (request, response) => {
      request.resume();
      response.flushHeaders();
      open.push(() => response.end(id));
    },
    release: () => open.shift()?.(),
  };
}

/** Frees a slot once the request waits for it, and then advances time until the response. */
async function waitsFor(
  response: Promise<unknown>,
  clock: TestClock,
  makeRoom: () => void,
): Promise<void> {
  const progress = { hasResponse: false };
  void response.then(() => (progress.hasResponse = true));
  while (clock.pendingCount() === 0) {
    assert.ok(!progress.hasResponse, 'it waits');
    await nextTurn();
  }
  makeRoom();
  while (!progress.hasResponse) await clock.advance(MANY_RETRIES.retries.delayMs);
}

/** A request whose response has begun. */
async function openStream(
  t: TestContext,
  edge: TestEdge,
  machine = 'a1',
): Promise<IncomingMessage> {
  const headers = { 'fly-prefer-instance-id': machine };
  const request = httpRequest(edge.url, { agent: false, headers }).end();
  t.after(() => request.destroy());
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.resume();
  return response;
}

const MANY_RETRIES = { retries: { count: 1000, delayMs: 5 }, hardLimit: 1 };
const PREFERRING = { headers: { 'fly-prefer-instance-id': 'a1' } };

test('a Machine at its hard limit gets no more requests until one has ended', async (t) => {
  const a = holding('a1');
  const edge = await startTestEdge(
    t,
    [await startMachine(t, 'a1', a.listener), await startMachine(t, 'b2', naming('b2'))],
    { hardLimit: 2 },
  );
  const first = await openStream(t, edge);
  await openStream(t, edge);
  assert.equal((await sendRequest(edge.url, PREFERRING)).body, 'b2');
  assert.equal((await sendRequest(edge.url)).body, 'b2', 'nor without a preference');
  a.release();
  await once(first, 'end');
  await openStream(t, edge);
  assert.deepEqual(
    edge.records.map(({ served }) => served),
    ['a1', 'a1', 'b2', 'b2', 'a1'],
  );
});

test('when all are full, a stopped Machine is started', async (t) => {
  const b = await startMachine(t, 'b2', naming('b2'), { state: 'stopped' });
  const machines = [await startMachine(t, 'a1', holding('a1').listener), b];
  const edge = await startTestEdge(t, machines, { hardLimit: 1 });
  await openStream(t, edge);
  assert.equal((await sendRequest(edge.url)).body, 'b2');
  assert.equal(b.wakeCount, 1);
});

test('when all are full, a request waits for a slot', async (t) => {
  const a = holding('a1');
  const clock = createTestClock();
  const machines = [await startMachine(t, 'a1', a.listener)];
  const edge = await startTestEdge(t, machines, { ...MANY_RETRIES, clock });
  await openStream(t, edge);
  await waitsFor(openStream(t, edge), clock, () => a.release());
  assert.equal(edge.records.length, 2);
});

test('when no slot becomes free, a request fails after the retries', async (t) => {
  const machine = await startMachine(t, 'a1', holding('a1').listener);
  const edge = await startTestEdge(t, [machine], { hardLimit: 1 });
  await openStream(t, edge);
  const response = await sendRequest(edge.url);
  assert.deepEqual([response.status, response.headers['fly-error']], [503, 'PR03']);
});

test('an open socket counts, and a client that disconnects frees a slot', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  machine.server.on('upgrade', (_request, socket: Socket) => {
    socket.on('error', () => undefined);
    socket.write('HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  });
  const machines = [machine, await startMachine(t, 'b2', naming('b2'))];
  const edge = await startTestEdge(t, machines, { hardLimit: 1 });
  const socket = connect(Number(new URL(edge.url).port), '127.0.0.1');
  const fields = ['Host: x', 'Connection: Upgrade', 'Upgrade: websocket'];
  socket.write(`GET / HTTP/1.1\r\n${fields.join('\r\n')}\r\n\r\n`);
  await once(socket, 'data');
  for (let i = 0; i < 2; i += 1) assert.equal((await sendRequest(edge.url, PREFERRING)).body, 'b2');
  socket.resetAndDestroy();
  while ((await sendRequest(edge.url, PREFERRING)).body !== 'a1');
});

/** `a1` replays to `b2`, which is full, and reports why a request came back. */
async function startFull(t: TestContext, replay: string, options: Partial<EdgeOptions> = {}) {
  const a = await startMachine(t, 'a1', (request, response) => {
    const failed = request.headers['fly-replay-failed']?.toString();
    if (failed === undefined) replaying(replay)(request, response);
    else response.end(parseReplayFailure(failed).reason);
  });
  const b = holding('b2');
  const machines = [a, await startMachine(t, 'b2', b.listener)];
  const edge = await startTestEdge(t, machines, { ...MANY_RETRIES, ...options });
  await openStream(t, edge, 'b2');
  return { edge, b };
}

test('a replay to a full Machine waits for a slot', async (t) => {
  const clock = createTestClock();
  const replay = 'instance=b2;timeout=1000s;fallback=force_self';
  const { edge, b } = await startFull(t, replay, { clock });
  await waitsFor(openStream(t, edge), clock, () => b.release());
  const [, record] = edge.records;
  assert.deepEqual([record?.served, record?.replays], ['b2', 1]);
});

test('a replay to a full Machine falls back at its timeout, and not before', async (t) => {
  // So few retries that an unreachable Machine would fail long before.
  const retries = { count: 1, delayMs: 1 };
  const { edge } = await startFull(t, 'instance=b2;timeout=50ms;fallback=force_self', { retries });
  assert.equal((await sendRequest(edge.url, PREFERRING)).body, 'timeout');
});

test('a replay to a full Machine without a timeout is an error after the retries', async (t) => {
  const { edge } = await startFull(t, 'instance=b2', { retries: { count: 2, delayMs: 1 } });
  assert.equal((await sendRequest(edge.url, PREFERRING)).headers['fly-error'], 'PR03');
});

test('a replay that prefers a full Machine goes to another, with a header that reports it', async (t) => {
  const reporting: RequestListener = (request, response) => {
    const unavailable = request.headers['fly-preferred-instance-unavailable'];
    if (request.headers['fly-replay-src']) response.end(String(unavailable));
    else replaying('prefer_instance=b2')(request, response);
  };
  const machines = [
    await startMachine(t, 'a1', reporting),
    await startMachine(t, 'b2', holding('b2').listener),
  ];
  const edge = await startTestEdge(t, machines, { hardLimit: 1 });
  await openStream(t, edge, 'b2');
  assert.equal((await sendRequest(edge.url, PREFERRING)).body, 'b2');
});
