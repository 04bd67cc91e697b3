import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { createSilences, SILENCE_MS, type Silences } from '../../src/fleet/silences.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import {
  B,
  bind,
  closeGate,
  KEY,
  listen,
  QUESTION_MS,
  SELF,
  startAsker,
  startPeer,
  until,
} from './support.ts';

describe('a Machine that has not answered', () => {
  it('is known to be silent for a few seconds, counted from the last time', async () => {
    const clock = createTestClock();
    const silences = createSilences({ clock });
    silences.noteSilence(B);
    await clock.advance(SILENCE_MS - 1);
    silences.noteSilence(B);
    await clock.advance(SILENCE_MS - 1);
    assert.equal(silences.isSilent(B), true);
    await clock.advance(1);
    assert.equal(silences.isSilent(B), false);
  });

  it('is not silent any more at the first sign of life', () => {
    const silences = createSilences({ clock: createTestClock() });
    silences.noteSilence(B);
    silences.noteLife(B);
    assert.equal(silences.isSilent(B), false);
  });

  it('is one of a bounded number, the longest ago forgotten first', () => {
    const silences = createSilences({ clock: createTestClock(), maxMachines: 2 });
    for (const name of ['x1', 'x2', 'x1', 'x3']) silences.noteSilence(machineId(name));
    const silent = ['x1', 'x2', 'x3'].filter((name) => silences.isSilent(machineId(name)));
    assert.deepEqual(silent, ['x1', 'x3']);
  });
});

interface Asking {
  readonly clock: TestClock;
  readonly silences: Silences;
  readonly ask: () => Promise<unknown>;
}

async function askerOf(t: TestContext, port: number): Promise<Asking> {
  const clock = createTestClock();
  const silences = createSilences({ clock });
  const { peers } = await startAsker(t, clock, [{ machine: B, port }], { silences });
  return { clock, silences, ask: () => peers.ask(KEY) };
}

describe('a question', () => {
  it('that nobody takes shows its Machine to be silent', async (t) => {
    const gone = await listen(t, () => undefined);
    await gone.close();
    const { silences, ask } = await askerOf(t, gone.port);
    await ask();
    assert.equal(silences.isSilent(B), true);
  });

  it('that stays unanswered shows its Machine to be silent, until it answers', async (t) => {
    const peerClock = createTestClock();
    const peer = await startPeer(t, peerClock, B);
    const { clock, silences, ask } = await askerOf(t, peer.port);
    const openGate = closeGate(peer);
    const asked = ask();
    await until(() => peer.requests.length === 1);
    await clock.advance(QUESTION_MS);
    await asked;
    assert.equal(silences.isSilent(B), true);
    openGate();
    await bind(peer, KEY);
    await ask();
    assert.equal(silences.isSilent(B), false);
  });

  it('that is refused says nothing: somebody is there, but may be another', async (t) => {
    const stranger = await listen(t, (_, response) => response.writeHead(403).end());
    const { silences, ask } = await askerOf(t, stranger.port);
    await ask();
    assert.equal(silences.isSilent(B), false);
  });
});

it('a Machine that asks or tells us something is there', async (t) => {
  const clock = createTestClock();
  const heard: string[] = [];
  const peer = await startPeer(t, clock, B, { onHeard: (machine) => heard.push(machine) });
  const { peers } = await startAsker(t, clock, [peer]);
  await peers.ask(KEY);
  assert.deepEqual(heard, [SELF]);
});
