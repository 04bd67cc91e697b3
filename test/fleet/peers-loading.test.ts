import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadUndici } from '../../src/fleet/peer-client.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';
import {
  B,
  INCONCLUSIVE,
  KEY,
  NONE,
  ownBinding,
  QUESTION_MS,
  startAsker,
  startPeer,
  TTL_MS,
  until,
} from './support.ts';

describe('undici', () => {
  it('is not loaded before a peer is asked, and is loaded once for a peer', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    let loads = 0;
    const load: typeof loadUndici = () => {
      loads += 1;
      return loadUndici();
    };
    const { peers } = await startAsker(t, clock, [b], { loadUndici: load });
    assert.equal(loads, 0);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(await peers.ask(keyOf('other')), NONE);
    assert.equal(loads, 1);
  });

  it('that can not be loaded makes the peer unresponsive, until it can', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    let isThere = false;
    const load: typeof loadUndici = () =>
      isThere ? loadUndici() : Promise.reject(new Error('no such file'));
    const asker = await startAsker(t, clock, [b], { loadUndici: load });
    assert.deepEqual(await asker.peers.ask(KEY), INCONCLUSIVE);
    assert.equal(asker.liveness.isUnresponsive(B), true);
    asker.peers.announce(ownBinding(clock), TTL_MS);
    isThere = true;
    assert.deepEqual(await asker.peers.ask(KEY), NONE);
    assert.equal(asker.liveness.isUnresponsive(B), false);
    await until(async () => typeof (await b.store.lookup(KEY)) === 'object');
  });

  it('that takes its time says nothing of the peer', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const gate = Promise.withResolvers<undefined>();
    const load: typeof loadUndici = () => gate.promise.then(loadUndici);
    const { peers, liveness } = await startAsker(t, clock, [b], { loadUndici: load });
    const answer = peers.ask(KEY);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await answer, INCONCLUSIVE);
    assert.equal(liveness.isUnresponsive(B), false);
    gate.resolve(undefined);
    await until(() => b.requests.length === 1);
  });

  it('that arrives after the end opens nothing', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const gate = Promise.withResolvers<undefined>();
    const load: typeof loadUndici = () => gate.promise.then(loadUndici);
    const { peers, liveness } = await startAsker(t, clock, [b], { loadUndici: load });
    const answer = peers.ask(KEY);
    await clock.advance(0);
    const stopped = peers.stop();
    gate.resolve(undefined);
    await stopped;
    assert.deepEqual(await answer, INCONCLUSIVE);
    assert.deepEqual(b.requests, []);
    assert.equal(await b.connections(), 0);
    assert.equal(liveness.isUnresponsive(B), false);
  });
});
