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
  startQueryingMachine,
  startPeer,
  TTL_MS,
  until,
} from './support.ts';

describe('undici', () => {
  it('is not loaded before the first query to a peer, and is loaded once per peer', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    let loads = 0;
    const load: typeof loadUndici = () => {
      loads += 1;
      return loadUndici();
    };
    const { peers } = await startQueryingMachine(t, clock, [b], { loadUndici: load });
    assert.equal(loads, 0);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(await peers.ask(keyOf('other')), NONE);
    assert.equal(loads, 1);
  });

  it('makes the peer unresponsive while it cannot be loaded', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    let isThere = false;
    const load: typeof loadUndici = () =>
      isThere ? loadUndici() : Promise.reject(new Error('no such file'));
    const querying = await startQueryingMachine(t, clock, [b], { loadUndici: load });
    assert.deepEqual(await querying.peers.ask(KEY), INCONCLUSIVE);
    assert.equal(querying.liveness.isUnresponsive(B), true);
    querying.peers.announce(ownBinding(clock), TTL_MS);
    isThere = true;
    assert.deepEqual(await querying.peers.ask(KEY), NONE);
    assert.equal(querying.liveness.isUnresponsive(B), false);
    await until(async () => typeof (await b.store.lookup(KEY)) === 'object');
  });

  it("does not affect a peer's liveness while it loads slowly", async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const gate = Promise.withResolvers<undefined>();
    const load: typeof loadUndici = () => gate.promise.then(loadUndici);
    const { peers, liveness } = await startQueryingMachine(t, clock, [b], { loadUndici: load });
    const respond = peers.ask(KEY);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await respond, INCONCLUSIVE);
    assert.equal(liveness.isUnresponsive(B), false);
    gate.resolve(undefined);
    await until(() => b.requests.length === 1);
  });

  it('opens nothing when it is loaded after the stop', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const gate = Promise.withResolvers<undefined>();
    const load: typeof loadUndici = () => gate.promise.then(loadUndici);
    const { peers, liveness } = await startQueryingMachine(t, clock, [b], { loadUndici: load });
    const respond = peers.ask(KEY);
    await clock.advance(0);
    const stopped = peers.stop();
    gate.resolve(undefined);
    await stopped;
    assert.deepEqual(await respond, INCONCLUSIVE);
    assert.deepEqual(b.requests, []);
    assert.equal(await b.connections(), 0);
    assert.equal(liveness.isUnresponsive(B), false);
  });
});
