import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { MIN_ABSENCE_MS } from '../../src/fleet/gone-machines.ts';
import {
  UNREACHABLE_FROM_EDGE_MS,
  RECENT_REQUEST_MS,
  REFUSALS_IN_ROW_MS,
  UNRESPONSIVE_MS,
  NOT_LISTED_MS,
  NOT_LISTED_WAIT_MS,
  type ListedPeer,
  type Liveness,
} from '../../src/fleet/liveness.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';
import {
  B,
  bind,
  C,
  closeGate,
  KEY,
  listen,
  EXCHANGE_MS,
  QUESTION_MS,
  SELF,
  startAsker,
  startPeer,
  until,
} from './support.ts';

describe('a Machine that has not answered', () => {
  it('is known to be silent for a few seconds, counted from the last time', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onNoResponse(B);
    await clock.advance(UNRESPONSIVE_MS - 1);
    liveness.onNoResponse(B);
    await clock.advance(UNRESPONSIVE_MS - 1);
    assert.equal(liveness.isUnresponsive(B), true);
    await clock.advance(1);
    assert.equal(liveness.isUnresponsive(B), false);
  });

  it('is not silent any more at the first sign of life', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onNoResponse(B);
    liveness.onResponse(B);
    assert.equal(liveness.isUnresponsive(B), false);
  });

  it('is one of a bounded number, the longest ago forgotten first', () => {
    const liveness = createTestLiveness(createTestClock(), { maxMachines: 2 });
    for (const name of ['x1', 'x2', 'x1', 'x3']) liveness.onNoResponse(machineId(name));
    const silent = ['x1', 'x2', 'x3'].filter((name) => liveness.isUnresponsive(machineId(name)));
    assert.deepEqual(silent, ['x1', 'x3']);
  });
});

interface Asking {
  readonly clock: TestClock;
  readonly liveness: Liveness;
  readonly ask: () => Promise<unknown>;
}

async function askerOf(t: TestContext, port: number): Promise<Asking> {
  const clock = createTestClock();
  const { peers, liveness } = await startAsker(t, clock, [{ machine: B, port }]);
  return { clock, liveness, ask: () => peers.ask(KEY) };
}

describe('a question', () => {
  it('that nobody takes shows its Machine to be silent', async (t) => {
    const gone = await listen(t, () => undefined);
    await gone.close();
    const { liveness, ask } = await askerOf(t, gone.port);
    await ask();
    assert.equal(liveness.isUnresponsive(B), true);
  });

  it('that stays unanswered shows its Machine to be silent, until it answers', async (t) => {
    const peerClock = createTestClock();
    const peer = await startPeer(t, peerClock, B);
    const { clock, liveness, ask } = await askerOf(t, peer.port);
    const openGate = closeGate(peer);
    const asked = ask();
    await until(() => peer.requests.length === 1);
    await clock.advance(QUESTION_MS);
    await asked;
    assert.equal(liveness.isUnresponsive(B), false);
    await clock.advance(EXCHANGE_MS - QUESTION_MS);
    await until(() => liveness.isUnresponsive(B));
    openGate();
    await bind(peer, KEY);
    await ask();
    assert.equal(liveness.isUnresponsive(B), false);
  });

  it('that is refused says nothing: somebody is there, but may be another', async (t) => {
    const stranger = await listen(t, (_, response) => response.writeHead(403).end());
    const { liveness, ask } = await askerOf(t, stranger.port);
    await ask();
    assert.equal(liveness.isUnresponsive(B), false);
  });
});

it('a Machine that asks or tells us something is there', async (t) => {
  const clock = createTestClock();
  const heard: string[] = [];
  const peer = await startPeer(t, clock, B, { onRequestFrom: (machine) => heard.push(machine) });
  const { peers } = await startAsker(t, clock, [peer]);
  await peers.ask(KEY);
  assert.deepEqual(heard, [SELF]);
});

/** A peer of the list, at an address of its own. */
const listed = (...machines: (typeof B)[]): ListedPeer[] =>
  machines.map((machine, i) => ({
    peer: { machine, host: machine, port: 1, address: `127.0.0.${i + 2}` },
    addresses: [`127.0.0.${i + 2}`],
  }));

interface At {
  readonly ms: number;
  readonly tookMs?: number;
  readonly running?: boolean;
  readonly deployed?: boolean;
}

/** A reading that has B so. */
function read(liveness: Liveness, { ms, tookMs = 0, running = false, deployed = true }: At): void {
  liveness.onReading({
    startedAtMs: ms,
    endedAtMs: ms + tookMs,
    entries: running ? listed(B) : [],
    running: new Set(running ? [SELF, B] : [SELF]),
    deployed: new Set(deployed ? [SELF, B] : [SELF]),
  });
}

describe('a Machine is confirmed to be stopped', () => {
  // prettier-ignore
  const rows: readonly { readonly claim: string; readonly readings: readonly At[]; readonly is: boolean }[] = [
    { claim: 'never without a reading', readings: [], is: false },
    { claim: 'not by one reading', readings: [{ ms: 0 }], is: false },
    { claim: 'by two that are ten seconds apart', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS }], is: true },
    { claim: 'not by two that are closer', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS - 1 }], is: false },
    { claim: 'counted from the end of the first to the begin of the last', readings: [{ ms: 0, tookMs: 1 }, { ms: MIN_ABSENCE_MS, tookMs: 5 }], is: false },
    { claim: 'not if it ran between them', readings: [{ ms: 0 }, { ms: 5_000, running: true }, { ms: 10_000 }], is: false },
    { claim: 'not if it runs now', readings: [{ ms: 0 }, { ms: 10_000 }, { ms: 15_000, running: true }], is: false },
    { claim: 'not if it is not deployed any more: then it may be gone', readings: [{ ms: 0 }, { ms: 10_000, deployed: false }], is: false },
  ];
  for (const { claim, readings, is } of rows) {
    it(claim, () => {
      const liveness = createTestLiveness(createTestClock());
      for (const reading of readings) read(liveness, reading);
      assert.equal(liveness.isConfirmedStopped(B), is);
      assert.equal(liveness.isConfirmedStopped(SELF), false);
    });
  }

  it('later than it is listed as such', () => {
    const liveness = createTestLiveness(createTestClock());
    read(liveness, { ms: 0, running: true });
    assert.equal(liveness.listing(B), 'running');
    read(liveness, { ms: 5_000 });
    assert.deepEqual([liveness.listing(B), liveness.isConfirmedStopped(B)], ['stopped', false]);
  });

  it('only while the list can be read', () => {
    const liveness = createTestLiveness(createTestClock());
    for (const ms of [0, MIN_ABSENCE_MS]) read(liveness, { ms });
    liveness.setListReadable(() => false);
    assert.equal(liveness.isConfirmedStopped(B), false);
  });
});

describe('what is known of a Machine', () => {
  it('that the list names is that it runs', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    assert.equal(liveness.of(B), 'running');
    assert.equal(liveness.of(C), 'unlisted');
  });

  it('that the edge could not reach and that answered a forward is forgotten after a while', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    liveness.onUnreachableFromEdge(B);
    await clock.advance(UNREACHABLE_FROM_EDGE_MS - 1);
    assert.equal(liveness.of(B), 'unreachable-from-edge');
    await clock.advance(1);
    assert.equal(liveness.of(B), 'running');
  });

  it('that does not answer is silent before all else', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    liveness.onUnreachableFromEdge(B);
    liveness.onNoResponse(B);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('that is stopped is gone only where its app has lost its memory with that', () => {
    for (const [ownerStopped, expected] of [
      ['wake', 'stopped'],
      ['gone', 'gone'],
    ] as const) {
      const liveness = createTestLiveness(createTestClock(), { ownerStopped });
      for (const ms of [0, MIN_ABSENCE_MS]) read(liveness, { ms });
      assert.equal(liveness.of(B), expected);
    }
  });
});

describe('heartbeats', () => {
  const STATUS = { version: 2, takesSessions: true, region: 'ams' };

  it('make a Machine a candidate once it has told its status', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B, C));
    assert.deepEqual(liveness.candidates(), []);
    liveness.onStatus(B, STATUS);
    assert.deepEqual(liveness.candidates(), [{ machine: B, region: 'ams', takesSessions: true }]);
    assert.equal(liveness.versionOf(B), 2);
  });

  it('are not needed by one that has answered something else to be a candidate', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    liveness.onResponse(B);
    const [candidate] = liveness.candidates();
    assert.deepEqual(candidate, { machine: B, region: undefined, takesSessions: true });
    assert.equal(liveness.isFleetProbed(), true);
  });

  it('that two in a row miss make it silent, until it answers anything', () => {
    const changes: boolean[] = [];
    const liveness = createTestLiveness(createTestClock(), {
      onChange: (_, isSilent) => changes.push(isSilent),
    });
    liveness.onList(listed(B));
    liveness.onStatus(B, STATUS);
    liveness.onMissedHeartbeat(B);
    assert.deepEqual([liveness.of(B), liveness.candidates().length], ['running', 1]);
    liveness.onMissedHeartbeat(B);
    assert.deepEqual([liveness.of(B), liveness.candidates().length], ['unresponsive', 0]);
    assert.deepEqual(liveness.missingHeartbeats(), [B]);
    liveness.onResponse(B);
    assert.deepEqual([liveness.of(B), liveness.candidates().length], ['running', 1]);
    assert.deepEqual(changes, [true, false]);
  });

  it('that stay without an answer say nothing of a Machine that is heard of meanwhile', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    liveness.onRequestFrom(B);
    for (let i = 0; i < 3; i += 1) liveness.onMissedHeartbeat(B);
    assert.equal(liveness.of(B), 'running');
    await clock.advance(RECENT_REQUEST_MS);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('do not forget a silent Machine after a while, as one question does', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    await clock.advance(60 * UNRESPONSIVE_MS);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('of a peer that does not know us yet say nothing, for as long as it may take to read a list', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    for (let i = 0; i < 3; i += 1) liveness.onNotListed(B);
    assert.deepEqual([liveness.of(B), liveness.isFleetProbed()], ['running', false]);
    await clock.advance(NOT_LISTED_MS);
    for (let i = 0; i < 2; i += 1) liveness.onNotListed(B);
    assert.deepEqual([liveness.of(B), liveness.isFleetProbed()], ['unresponsive', true]);
  });

  it('settle the fleet once each peer has answered or is silent', () => {
    const liveness = createTestLiveness(createTestClock());
    assert.equal(liveness.isFleetProbed(), true);
    liveness.onList(listed(B, C));
    liveness.onStatus(B, STATUS);
    assert.equal(liveness.isFleetProbed(), false);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(C);
    assert.equal(liveness.isFleetProbed(), true);
  });

  it('of a Machine that is not listed are not kept', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onStatus(B, STATUS);
    liveness.onList(listed(B));
    assert.equal(liveness.versionOf(B), undefined);
    liveness.onStatus(B, STATUS);
    liveness.onList([]);
    liveness.onList(listed(B));
    assert.equal(liveness.versionOf(B), undefined);
  });
});

describe('a Machine that answers that it does not know this one', () => {
  it('holds up new sessions for two seconds, and takes none', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    liveness.onNotListed(B);
    assert.equal(liveness.isFleetProbed(), false);
    await clock.advance(NOT_LISTED_WAIT_MS);
    liveness.onNotListed(B);
    assert.equal(liveness.isFleetProbed(), true);
    assert.deepEqual(liveness.candidates(), []);
  });
});

describe('a Machine of a static list that refuses connections', () => {
  const GONE_AFTER_MS = 60_000;

  async function refuseFor(ms: number, more: Partial<{ goneAfterMs: number }> = {}) {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, { goneAfterMs: GONE_AFTER_MS, ...more });
    liveness.onList(listed(B));
    liveness.onConnectFailed(B, true);
    for (let leftMs = ms; leftMs > 0; leftMs -= REFUSALS_IN_ROW_MS) {
      await clock.advance(Math.min(leftMs, REFUSALS_IN_ROW_MS));
      liveness.onConnectFailed(B, true);
    }
    return { clock, liveness };
  }

  it('is gone once it has done so for the stated time, and not before', async () => {
    assert.equal((await refuseFor(GONE_AFTER_MS - 1)).liveness.of(B), 'unresponsive');
    assert.equal((await refuseFor(GONE_AFTER_MS)).liveness.of(B), 'gone');
  });

  it('is no candidate, however lately it was heard of', () => {
    const liveness = createTestLiveness(createTestClock(), { goneAfterMs: GONE_AFTER_MS });
    liveness.onList(listed(B));
    liveness.onRequestFrom(B);
    liveness.onConnectFailed(B, true);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    assert.deepEqual(liveness.candidates(), []);
  });

  it('is never gone where the setting says so', async () => {
    const { liveness } = await refuseFor(GONE_AFTER_MS, { goneAfterMs: 0 });
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is back with the first connection that it takes', async () => {
    const { liveness } = await refuseFor(GONE_AFTER_MS);
    liveness.onConnected(B);
    assert.notEqual(liveness.of(B), 'gone');
  });

  it('is not gone for connections that time out: that is silence', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, { goneAfterMs: GONE_AFTER_MS });
    liveness.onList(listed(B));
    liveness.onConnectFailed(B, false);
    await clock.advance(GONE_AFTER_MS);
    liveness.onConnectFailed(B, false);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is not gone where a connection timed out in between', async () => {
    const { clock, liveness } = await refuseFor(GONE_AFTER_MS - 1);
    liveness.onConnectFailed(B, false);
    await clock.advance(1);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is not gone where nobody has tried for a while: this Machine was suspended', async () => {
    const { clock, liveness } = await refuseFor(1_000);
    await clock.advance(GONE_AFTER_MS);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('has to refuse again after it has answered', async () => {
    const { clock, liveness } = await refuseFor(GONE_AFTER_MS - 1);
    liveness.onResponse(B);
    await clock.advance(1);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });
});
