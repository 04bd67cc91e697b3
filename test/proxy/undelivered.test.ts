/** What the edge could not deliver, or has delivered out of its cache: whole sidecars on their wires. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../fleet/support.ts';
import {
  COULD_NOT_REACH_M1,
  isToldToTryAgain,
  leave,
  open,
  patientClock,
  replayOf,
  servedBy,
  SESSION,
} from './undelivered-support.ts';

describe('what the edge could not deliver', () => {
  test('reaches its owner over the private network, and is counted by its reason', async (t) => {
    const { ask, failed } = await open(t);
    assert.equal(await servedBy(ask(COULD_NOT_REACH_M1)), 'm1');
    assert.equal(await servedBy(ask({ 'fly-replay-failed': 'reason=retries_exhausted' })), 'm1');
    assert.equal(await servedBy(ask({ 'fly-replay-failed': 'what a client wrote' })), 'm1');
    assert.deepEqual(failed, ['timeout', 'retries_exhausted', 'other']);
  });

  test('takes the private network for a while, until the edge is tried again', async (t) => {
    let laterMs = 0;
    const clock = { ...patientClock, monotonicMs: () => patientClock.monotonicMs() + laterMs };
    const { ask } = await open(t, {}, clock);
    assert.equal(await servedBy(ask(COULD_NOT_REACH_M1)), 'm1');
    laterMs = 9_000;
    assert.equal(await servedBy(ask()), 'm1');
    laterMs = 11_000;
    assert.match(await replayOf(ask()), /^instance=m1;state=fly-affinity;timeout=3s;/);
  });

  test('takes it no longer once the private network fails too', async (t) => {
    const { ask, fleet } = await open(t);
    assert.equal(await servedBy(ask(COULD_NOT_REACH_M1)), 'm1');
    fleet.lines.get('m1')?.leadTo(undefined);
    await isToldToTryAgain(ask());
    assert.match(await replayOf(ask()), /^instance=m1;state=fly-affinity;timeout=1s;/);
  });

  test('to another Machine than the owner is not replayed again, and says nothing of the owner', async (t) => {
    const { ask } = await open(t);
    const answering = ask({ 'fly-replay-failed': 'instance=m9;reason=no_candidate' });
    assert.equal(await servedBy(answering), 'm1');
    assert.match(await replayOf(ask()), /^instance=m1;state=fly-affinity;timeout=3s;/);
  });

  test('to the Machine that a client prefers reaches it too, if that is the owner', async (t) => {
    const { ask } = await open(t);
    const other = ask({ 'fly-preferred-instance-unavailable': 'm9' });
    assert.match(await replayOf(other), /^instance=m1;/);
    assert.equal(await servedBy(ask({ 'fly-preferred-instance-unavailable': 'm1' })), 'm1');
  });

  test('is a 503 with Retry-After if nobody reaches the owner, which keeps its session', async (t) => {
    const opened = await open(t);
    const { ask, m2 } = opened;
    await leave(opened);
    await isToldToTryAgain(ask(COULD_NOT_REACH_M1));
    await isToldToTryAgain(ask({ 'fly-preferred-instance-unavailable': 'm1' }));
    assert.equal(await m2.rowCount(), 1);
  });
});

describe('an owner that has just not answered', () => {
  test('is tried by the edge for a second only, until it shows a sign of life', async (t) => {
    const opened = await open(t);
    const { ask, fleet, m1 } = opened;
    const peerPort = m1.sidecar.ports.peer;
    fleet.lines.get('m1')?.leadTo(undefined);
    await isToldToTryAgain(ask(COULD_NOT_REACH_M1));
    assert.equal(
      await replayOf(ask()),
      'instance=m1;state=fly-affinity;timeout=1s;fallback=prefer_self',
    );
    fleet.lines.get('m1')?.leadTo(peerPort);
    await until(
      async () =>
        (await replayOf(ask())) ===
        'instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self',
    );
  });

  test('is not made so by what a client pretends', async (t) => {
    const { ask } = await open(t);
    for (let i = 0; i < 3; i += 1) await ask(COULD_NOT_REACH_M1).then((answer) => answer.text());
    assert.equal(await servedBy(ask()), 'm1');
  });
});

describe('with REPLAY_CACHEABLE', () => {
  const CACHEABLE = { REPLAY_CACHEABLE: 'true' };
  const HIT = { 'fly-replay-cache-status': 'hit' };

  test('a replay to a Machine that runs says nothing that the cache would not keep', async (t) => {
    const { ask } = await open(t, CACHEABLE);
    const answer = await ask();
    assert.equal(answer.headers.get('fly-replay'), 'instance=m1');
    assert.equal(answer.headers.get('fly-replay-cache'), null);
  });

  test('a replay to a Machine that has just been silent comes back', async (t) => {
    const opened = await open(t, CACHEABLE);
    await leave(opened);
    await isToldToTryAgain(opened.ask(COULD_NOT_REACH_M1));
    assert.match(
      await replayOf(opened.ask()),
      /^instance=m1;state=fly-affinity;timeout=1s;fallback=prefer_self$/,
    );
  });

  test('what the cache has sent to the wrong Machine is sent on, and the cache is told', async (t) => {
    const { ask } = await open(t, CACHEABLE);
    const answer = await ask(HIT);
    assert.deepEqual(
      [answer.headers.get('fly-replay'), answer.headers.get('fly-replay-cache')],
      ['instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self', 'invalidate'],
    );
  });

  test('a hit is sent on once: after a replay, or once it came back, it is forwarded', async (t) => {
    const { ask } = await open(t, CACHEABLE);
    assert.equal(await servedBy(ask({ ...HIT, 'fly-replay-src': 'instance=m3;t=1' })), 'm1');
    assert.equal(await servedBy(ask({ ...HIT, ...COULD_NOT_REACH_M1 })), 'm1');
  });

  test('a hit that is in its place is served', async (t) => {
    const { m1 } = await open(t, CACHEABLE);
    const answering = fetch(`${m1.url}/rpc`, { headers: { ...SESSION, ...HIT } });
    assert.equal(await servedBy(answering), 'm1');
  });
});
