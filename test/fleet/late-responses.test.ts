/** A peer that is short of CPU time responds late: that is not silence, and its response counts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MAX_QUERIES } from '../../src/fleet/peers.ts';
import { keyOf } from '../support/ids.ts';
import {
  B,
  bind,
  C,
  closeGate,
  RESPONSE_DEADLINE_MS,
  INCONCLUSIVE,
  KEY,
  NONE,
  QUESTION_MS,
  startFleet,
  until,
} from './support.ts';

const WAITING = { waitsForSlowPeers: true };

it("a peer's claim is reported once per query, and not for a dry run", async (t) => {
  const { c, claims, peers } = await startFleet(t);
  await bind(c, KEY);
  await Promise.all([peers.ask(KEY), peers.ask(KEY), peers.ask(KEY)]);
  assert.deepEqual(claims.splice(0), [{ key: KEY, machine: C }]);
  assert.equal((await peers.ask(KEY, { isDryRun: true })).kind, 'owner');
  assert.deepEqual(claims, []);
});

it('a fresh query is sent to a peer that has just responded no', async (t) => {
  const { c, peers } = await startFleet(t);
  await peers.ask(KEY);
  const reported: unknown[] = [];
  await peers.ask(KEY, {
    skipsCache: true,
    onResponse: (machine, result) => reported.push(machine, result),
  });
  assert.deepEqual([c.requests.length, reported.sort()], [2, [B, C, 'no', 'no']]);
});

describe('a late response', () => {
  it('is awaited for two seconds by a patient query', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    await bind(c, KEY);
    const owner = peers.ask(KEY, WAITING);
    await until(() => c.requests.length === 1);
    await clock.advance(RESPONSE_DEADLINE_MS - 1);
    open();
    const result = await owner;
    assert.equal(result.kind === 'owner' && result.machine, C);
  });

  for (const [claim, isUnresponsive, waitMs] of [
    ['is inconclusive after two seconds, for a patient query', false, RESPONSE_DEADLINE_MS],
    ['is not awaited when a peer is known to be unresponsive', true, QUESTION_MS],
  ] as const) {
    it(claim, async (t) => {
      const { clock, c, liveness, peers } = await startFleet(t);
      if (isUnresponsive) liveness.onNoResponse(C);
      const open = closeGate(c);
      const result = peers.ask(KEY, WAITING);
      await until(() => c.requests.length === 1);
      await clock.advance(waitMs);
      assert.deepEqual(await result, INCONCLUSIVE);
      open();
    });
  }

  it('is recorded as a claim after the query timed out, but not as a no', async (t) => {
    const { clock, b, c, claims, peers } = await startFleet(t);
    const opens = [b, c].map(closeGate);
    await bind(c, KEY);
    const result = peers.ask(KEY);
    await until(() => b.requests.length === 1 && c.requests.length === 1);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await result, INCONCLUSIVE);
    opens.forEach((open) => open());
    await until(() => claims.length > 0);
    assert.deepEqual(claims, [{ key: KEY, machine: C }]);
    assert.equal((await peers.ask(KEY)).kind, 'owner');
    assert.deepEqual([b.requests.length, c.requests.length], [2, 2]);
  });

  it('does not count as a no when the peer has announced the key meanwhile', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const result = peers.ask(KEY, WAITING);
    await until(() => c.requests.length === 1);
    peers.onAnnounced(KEY, C);
    open();
    assert.deepEqual(await result, INCONCLUSIVE);
    await clock.advance(0);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.equal(c.requests.length, 2);
  });

  it('is not awaited by many queries: with half of the limit in flight the timeout is 300 ms', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const many = Array.from({ length: MAX_QUERIES / 2 }, (_, i) =>
      peers.ask(keyOf(`open-${i}`), WAITING),
    );
    const result = peers.ask(KEY, WAITING);
    await until(() => c.requests.length > 0);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await result, INCONCLUSIVE);
    open();
    await Promise.all(many);
  });

  it('delays only the next batch of queries', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const first = peers.ask(KEY, WAITING);
    await until(() => c.requests.length === 1);
    const second = peers.ask(keyOf('second'), WAITING);
    await clock.advance(QUESTION_MS);
    await until(() => c.requests.length === 2);
    const third = peers.ask(keyOf('third'), WAITING);
    await clock.advance(QUESTION_MS);
    assert.equal(c.requests.length, 2);
    open();
    assert.deepEqual(await Promise.all([first, second, third]), [NONE, NONE, NONE]);
    assert.equal(c.requests.length, 3);
  });

  it('makes its Machine neither unresponsive nor skipped', async (t) => {
    const { clock, b, c, liveness, peers } = await startFleet(t);
    for (let i = 0; i < 5; i += 1) {
      const opens = [b, c].map(closeGate);
      const result = peers.ask(keyOf(`slow-${i}`), WAITING);
      await until(() => b.requests.length === i + 1 && c.requests.length === i + 1);
      await clock.advance(RESPONSE_DEADLINE_MS - 1);
      for (const open of opens) open();
      assert.deepEqual(await result, NONE);
    }
    assert.deepEqual([liveness.isUnresponsive(B), liveness.isUnresponsive(C)], [false, false]);
  });
});
