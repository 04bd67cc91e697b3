/** A peer that is short of processor time answers late: that is no silence, and what it says counts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keyOf } from '../support/ids.ts';
import {
  B,
  bind,
  C,
  closeGate,
  EXCHANGE_MS,
  INCONCLUSIVE,
  KEY,
  NONE,
  QUESTION_MS,
  startFleet,
  until,
} from './support.ts';

const PATIENT = { isPatient: true };

describe('an answer that is late', () => {
  it('is waited for by who is patient, for two seconds', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    await bind(c, KEY);
    const owner = peers.ask(KEY, PATIENT);
    await until(() => c.requests.length === 1);
    await clock.advance(EXCHANGE_MS - 1);
    open();
    const answer = await owner;
    assert.equal(answer.kind === 'owner' && answer.machine, C);
  });

  it('is inconclusive to who is patient after two seconds', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const answer = peers.ask(KEY, PATIENT);
    await until(() => c.requests.length === 1);
    await clock.advance(EXCHANGE_MS);
    assert.deepEqual(await answer, INCONCLUSIVE);
    open();
  });

  it('is not waited for where a peer is known to be silent', async (t) => {
    const { clock, c, liveness, peers } = await startFleet(t);
    liveness.onSilence(C);
    const open = closeGate(c);
    const answer = peers.ask(KEY, PATIENT);
    await until(() => c.requests.length === 1);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await answer, INCONCLUSIVE);
    open();
  });

  it('is remembered though nobody waits for it any more', async (t) => {
    const { clock, c, liveness, peers } = await startFleet(t);
    const open = closeGate(c);
    const answer = peers.ask(KEY);
    await until(() => c.requests.length === 1);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await answer, INCONCLUSIVE);
    liveness.onSilence(C);
    open();
    await until(() => !liveness.isSilent(C));
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.equal(c.requests.length, 1);
  });

  it('keeps one batch of questions behind it from going, and no more than that', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const first = peers.ask(KEY, PATIENT);
    await until(() => c.requests.length === 1);
    const second = peers.ask(keyOf('second'), PATIENT);
    await clock.advance(QUESTION_MS);
    await until(() => c.requests.length === 2);
    const third = peers.ask(keyOf('third'), PATIENT);
    await clock.advance(QUESTION_MS);
    assert.equal(c.requests.length, 2);
    open();
    assert.deepEqual(await Promise.all([first, second, third]), [NONE, NONE, NONE]);
    assert.equal(c.requests.length, 3);
  });

  it('makes its Machine neither silent nor left alone', async (t) => {
    const { clock, b, c, liveness, peers } = await startFleet(t);
    for (let i = 0; i < 5; i += 1) {
      const opens = [b, c].map(closeGate);
      const answer = peers.ask(keyOf(`slow-${i}`), PATIENT);
      await until(() => b.requests.length === i + 1 && c.requests.length === i + 1);
      await clock.advance(EXCHANGE_MS - 1);
      for (const open of opens) open();
      assert.deepEqual(await answer, NONE);
    }
    assert.deepEqual([liveness.isSilent(B), liveness.isSilent(C)], [false, false]);
  });
});
