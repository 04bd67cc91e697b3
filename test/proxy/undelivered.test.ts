/** Requests that the edge could not deliver, or delivered from its replay cache: complete sidecars. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../fleet/support.ts';
import {
  COULD_NOT_REACH_M1,
  assertRetryLater,
  stopM1,
  startTwo,
  patientClock,
  replayOf,
  servedBy,
  SESSION,
} from './undelivered-support.ts';

describe('a request that the edge could not deliver', () => {
  test('reaches the owner over the private network, and is counted by its reason', async (t) => {
    const { send, failed } = await startTwo(t);
    assert.equal(await servedBy(send(COULD_NOT_REACH_M1)), 'm1');
    assert.equal(await servedBy(send({ 'fly-replay-failed': 'reason=retries_exhausted' })), 'm1');
    assert.equal(await servedBy(send({ 'fly-replay-failed': 'what a client wrote' })), 'm1');
    assert.deepEqual(failed, ['timeout', 'retries_exhausted', 'other']);
  });

  test('makes later requests use the private network for ten seconds, then the edge again', async (t) => {
    let laterMs = 0;
    const clock = { ...patientClock, monotonicMs: () => patientClock.monotonicMs() + laterMs };
    const { send } = await startTwo(t, {}, clock);
    assert.equal(await servedBy(send(COULD_NOT_REACH_M1)), 'm1');
    laterMs = 9_000;
    assert.equal(await servedBy(send()), 'm1');
    laterMs = 11_000;
    assert.match(await replayOf(send()), /^instance=m1;state=fly-affinity;timeout=3s;/);
  });

  test('makes later requests use the edge again if the private network fails too', async (t) => {
    const { send, fleet } = await startTwo(t);
    assert.equal(await servedBy(send(COULD_NOT_REACH_M1)), 'm1');
    fleet.lines.get('m1')?.leadTo(undefined);
    await assertRetryLater(send());
    assert.match(await replayOf(send()), /^instance=m1;state=fly-affinity;timeout=1s;/);
  });

  test('to another Machine than the owner is not replayed again, and does not affect later requests', async (t) => {
    const { send } = await startTwo(t);
    const pending = send({ 'fly-replay-failed': 'instance=m9;reason=no_candidate' });
    assert.equal(await servedBy(pending), 'm1');
    assert.match(await replayOf(send()), /^instance=m1;state=fly-affinity;timeout=3s;/);
  });

  test('to the Machine that the client prefers reaches it if it is the owner', async (t) => {
    const { send } = await startTwo(t);
    const other = send({ 'fly-preferred-instance-unavailable': 'm9' });
    assert.match(await replayOf(other), /^instance=m1;/);
    assert.equal(await servedBy(send({ 'fly-preferred-instance-unavailable': 'm1' })), 'm1');
  });

  test('returns 503 with Retry-After if the owner is unreachable, and the session keeps its owner', async (t) => {
    const machines = await startTwo(t);
    const { send, m2 } = machines;
    await stopM1(machines);
    await assertRetryLater(send(COULD_NOT_REACH_M1));
    await assertRetryLater(send({ 'fly-preferred-instance-unavailable': 'm1' }));
    assert.equal(await m2.rowCount(), 1);
  });
});

describe('an owner that has just timed out', () => {
  test('is replayed to with a timeout of one second until it responds again', async (t) => {
    const machines = await startTwo(t);
    const { send, fleet, m1 } = machines;
    const peerPort = m1.sidecar.ports.peer;
    fleet.lines.get('m1')?.leadTo(undefined);
    await assertRetryLater(send(COULD_NOT_REACH_M1));
    assert.equal(
      await replayOf(send()),
      'instance=m1;state=fly-affinity;timeout=1s;fallback=prefer_self',
    );
    fleet.lines.get('m1')?.leadTo(peerPort);
    await until(
      async () =>
        (await replayOf(send())) ===
        'instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self',
    );
  });

  test('is not assumed because of forged headers', async (t) => {
    const { send } = await startTwo(t);
    for (let i = 0; i < 3; i += 1)
      await send(COULD_NOT_REACH_M1).then((response) => response.text());
    assert.equal(await servedBy(send()), 'm1');
  });
});

describe('with REPLAY_CACHEABLE', () => {
  const CACHEABLE = { REPLAY_CACHEABLE: 'true' };
  const HIT = { 'fly-replay-cache-status': 'hit' };

  test('a replay to a running Machine has no fields that prevent caching', async (t) => {
    const { send } = await startTwo(t, CACHEABLE);
    const response = await send();
    assert.equal(response.headers.get('fly-replay'), 'instance=m1');
    assert.equal(response.headers.get('fly-replay-cache'), null);
  });

  test('a replay to a Machine that has just timed out has a fallback', async (t) => {
    const machines = await startTwo(t, CACHEABLE);
    await stopM1(machines);
    await assertRetryLater(machines.send(COULD_NOT_REACH_M1));
    assert.match(
      await replayOf(machines.send()),
      /^instance=m1;state=fly-affinity;timeout=1s;fallback=prefer_self$/,
    );
  });

  test('a cache hit on the wrong Machine is replayed, and invalidates the cache', async (t) => {
    const { send } = await startTwo(t, CACHEABLE);
    const response = await send(HIT);
    assert.deepEqual(
      [response.headers.get('fly-replay'), response.headers.get('fly-replay-cache')],
      ['instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self', 'invalidate'],
    );
  });

  test('a cache hit is forwarded if it was replayed before or returned by the edge', async (t) => {
    const { send } = await startTwo(t, CACHEABLE);
    assert.equal(await servedBy(send({ ...HIT, 'fly-replay-src': 'instance=m3;t=1' })), 'm1');
    assert.equal(await servedBy(send({ ...HIT, ...COULD_NOT_REACH_M1 })), 'm1');
  });

  test('a cache hit on the owner is served', async (t) => {
    const { m1 } = await startTwo(t, CACHEABLE);
    const pending = fetch(`${m1.url}/rpc`, { headers: { ...SESSION, ...HIT } });
    assert.equal(await servedBy(pending), 'm1');
  });
});
