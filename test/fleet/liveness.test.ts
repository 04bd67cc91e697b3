import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { ListedPeer } from '../../src/fleet/directory.ts';
import { MIN_ABSENCE_MS, REFUSALS_IN_ROW_MS } from '../../src/fleet/gone-machines.ts';
import { UNREACHABLE_FROM_EDGE_MS, type Liveness } from '../../src/fleet/liveness.ts';
import {
  NOT_LISTED_MS,
  NOT_LISTED_WAIT_MS,
  RECENT_REQUEST_MS,
  STARTING_MS,
  UNRESPONSIVE_MS,
} from '../../src/fleet/responsiveness.ts';
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
  RESPONSE_DEADLINE_MS,
  QUESTION_MS,
  SELF,
  startQueryingMachine,
  startPeer,
  until,
} from './support.ts';

describe('a Machine that has not responded', () => {
  it('is unresponsive for a few seconds, counted from the last failed call', async () => {
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

  it('is responsive again after its first response', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onNoResponse(B);
    liveness.onResponse(B);
    assert.equal(liveness.isUnresponsive(B), false);
  });

  it('is one of a bounded number; the oldest is dropped first', () => {
    const liveness = createTestLiveness(createTestClock(), { maxMachines: 2 });
    for (const name of ['x1', 'x2', 'x1', 'x3']) liveness.onNoResponse(machineId(name));
    const unresponsive = ['x1', 'x2', 'x3'].filter((name) =>
      liveness.isUnresponsive(machineId(name)),
    );
    assert.deepEqual(unresponsive, ['x1', 'x3']);
  });
});

interface QueryingMachine {
  readonly clock: TestClock;
  readonly liveness: Liveness;
  readonly query: () => Promise<unknown>;
}

async function startQuerying(t: TestContext, port: number): Promise<QueryingMachine> {
  const clock = createTestClock();
  const { peers, liveness } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
  return { clock, liveness, query: () => peers.ask(KEY) };
}

describe('a query', () => {
  it('to a closed port makes its Machine unresponsive', async (t) => {
    const gone = await listen(t, () => undefined);
    await gone.close();
    const { liveness, query } = await startQuerying(t, gone.port);
    await query();
    assert.equal(liveness.isUnresponsive(B), true);
  });

  it('without a response makes its Machine unresponsive, until it responds', async (t) => {
    const peerClock = createTestClock();
    const peer = await startPeer(t, peerClock, B);
    const { clock, liveness, query } = await startQuerying(t, peer.port);
    const openGate = closeGate(peer);
    const queried = query();
    await until(() => peer.requests.length === 1);
    await clock.advance(QUESTION_MS);
    await queried;
    assert.equal(liveness.isUnresponsive(B), false);
    await clock.advance(RESPONSE_DEADLINE_MS - QUESTION_MS);
    await until(() => liveness.isUnresponsive(B));
    openGate();
    await bind(peer, KEY);
    await query();
    assert.equal(liveness.isUnresponsive(B), false);
  });

  it('with an error response changes nothing: another Machine may have sent it', async (t) => {
    const otherServer = await listen(t, (_, response) => response.writeHead(403).end());
    const { liveness, query } = await startQuerying(t, otherServer.port);
    await query();
    assert.equal(liveness.isUnresponsive(B), false);
  });
});

it('reports a request from a Machine', async (t) => {
  const clock = createTestClock();
  const senders: string[] = [];
  const peer = await startPeer(t, clock, B, { onRequestFrom: (machine) => senders.push(machine) });
  const { peers } = await startQueryingMachine(t, clock, [peer]);
  await peers.ask(KEY);
  assert.deepEqual(senders, [SELF]);
});

/** A listed peer with its own address. */
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

/** A reading in which B has this state. */
function read(liveness: Liveness, { ms, tookMs = 0, running = false, deployed = true }: At): void {
  liveness.onReading({
    startedAtMs: ms,
    endedAtMs: ms + tookMs,
    entries: running ? listed(B) : [],
    running: new Set(running ? [SELF, B] : [SELF]),
    deployed: new Set(deployed ? [SELF, B] : [SELF]),
  });
}

describe('a Machine is confirmed stopped', () => {
  // prettier-ignore
  const rows: readonly { readonly claim: string; readonly readings: readonly At[]; readonly is: boolean }[] = [
    { claim: 'never without a reading', readings: [], is: false },
    { claim: 'not by one reading', readings: [{ ms: 0 }], is: false },
    { claim: 'by two that are ten seconds apart', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS }], is: true },
    { claim: 'not by two that are closer', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS - 1 }], is: false },
    { claim: 'counted from the end of the first reading to the start of the last', readings: [{ ms: 0, tookMs: 1 }, { ms: MIN_ABSENCE_MS, tookMs: 5 }], is: false },
    { claim: 'not if it ran between them', readings: [{ ms: 0 }, { ms: 5_000, running: true }, { ms: 10_000 }], is: false },
    { claim: 'not if it runs now', readings: [{ ms: 0 }, { ms: 10_000 }, { ms: 15_000, running: true }], is: false },
    { claim: 'not if it is no longer deployed: then it may be gone', readings: [{ ms: 0 }, { ms: 10_000, deployed: false }], is: false },
  ];
  for (const { claim, readings, is } of rows) {
    it(claim, () => {
      const liveness = createTestLiveness(createTestClock());
      for (const reading of readings) read(liveness, reading);
      assert.equal(liveness.isConfirmedStopped(B), is);
      assert.equal(liveness.isConfirmedStopped(SELF), false);
    });
  }

  it('later than it is listed as stopped', () => {
    const liveness = createTestLiveness(createTestClock());
    read(liveness, { ms: 0, running: true });
    assert.equal(liveness.listing(B), 'running');
    read(liveness, { ms: 5_000 });
    assert.deepEqual([liveness.listing(B), liveness.isConfirmedStopped(B)], ['stopped', false]);
  });

  it('only while the directory can be read', () => {
    const liveness = createTestLiveness(createTestClock());
    for (const ms of [0, MIN_ABSENCE_MS]) read(liveness, { ms });
    liveness.setListReadable(() => false);
    assert.equal(liveness.isConfirmedStopped(B), false);
  });
});

describe('the liveness of a Machine', () => {
  it('is running if it is listed', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    assert.equal(liveness.of(B), 'running');
    assert.equal(liveness.of(C), 'unlisted');
  });

  it('reverts after ten seconds when the edge could not reach it and it responded to a forward', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    liveness.onUnreachableFromEdge(B);
    await clock.advance(UNREACHABLE_FROM_EDGE_MS - 1);
    assert.equal(liveness.of(B), 'unreachable-from-edge');
    await clock.advance(1);
    assert.equal(liveness.of(B), 'running');
  });

  it('is unresponsive if it does not respond, wherever the edge can reach it', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    liveness.onUnreachableFromEdge(B);
    liveness.onNoResponse(B);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is gone when it is stopped, only with OWNER_STOPPED=gone', () => {
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

  it('make a Machine a candidate once it has sent its status', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B, C));
    assert.deepEqual(liveness.candidates(), []);
    liveness.onStatus(B, STATUS);
    assert.deepEqual(liveness.candidates(), [{ machine: B, region: 'ams', takesSessions: true }]);
    assert.equal(liveness.versionOf(B), 2);
  });

  it('are not needed for a candidate that responds to other messages', () => {
    const liveness = createTestLiveness(createTestClock());
    liveness.onList(listed(B));
    liveness.onResponse(B);
    const [candidate] = liveness.candidates();
    assert.deepEqual(candidate, { machine: B, region: undefined, takesSessions: true });
    assert.equal(liveness.isFleetProbed(), true);
  });

  it('make a Machine unresponsive when two in a row fail, until it responds', () => {
    const changes: boolean[] = [];
    const liveness = createTestLiveness(createTestClock(), {
      onChange: (_, isUnresponsive) => changes.push(isUnresponsive),
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

  it('report a Machine that has never responded only once it had the time to start', async () => {
    const changes: boolean[] = [];
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, {
      onChange: (_, isUnresponsive) => changes.push(isUnresponsive),
    });
    liveness.onList(listed(B));
    for (let i = 0; i < 3; i += 1) liveness.onMissedHeartbeat(B);
    assert.equal(liveness.of(B), 'unresponsive');
    assert.deepEqual(changes, []);
    await clock.advance(STARTING_MS);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    assert.deepEqual(changes, [true]);
    liveness.onResponse(B);
    assert.deepEqual(changes, [true, false]);
  });

  it('report nothing of a Machine that responds while it may be starting', () => {
    const changes: boolean[] = [];
    const liveness = createTestLiveness(createTestClock(), {
      onChange: (_, isUnresponsive) => changes.push(isUnresponsive),
    });
    liveness.onList(listed(B));
    for (let i = 0; i < 3; i += 1) liveness.onMissedHeartbeat(B);
    liveness.onResponse(B);
    assert.equal(liveness.of(B), 'running');
    assert.deepEqual(changes, []);
  });

  it('that fail are ignored for a Machine that sends requests meanwhile', async () => {
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

  it('that fail count until the Machine responds, unlike a failed call', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    await clock.advance(60 * UNRESPONSIVE_MS);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('to a peer that does not list this Machine are ignored for ten seconds', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock);
    liveness.onList(listed(B));
    for (let i = 0; i < 3; i += 1) liveness.onNotListed(B);
    assert.deepEqual([liveness.of(B), liveness.isFleetProbed()], ['running', false]);
    await clock.advance(NOT_LISTED_MS);
    for (let i = 0; i < 2; i += 1) liveness.onNotListed(B);
    assert.deepEqual([liveness.of(B), liveness.isFleetProbed()], ['unresponsive', true]);
  });

  it('have probed the fleet once each peer has responded or is unresponsive', () => {
    const liveness = createTestLiveness(createTestClock());
    assert.equal(liveness.isFleetProbed(), true);
    liveness.onList(listed(B, C));
    liveness.onStatus(B, STATUS);
    assert.equal(liveness.isFleetProbed(), false);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(C);
    assert.equal(liveness.isFleetProbed(), true);
  });

  it('of an unlisted Machine are not recorded', () => {
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

describe('a Machine that does not list this one', () => {
  it('delays new sessions for two seconds, and receives none', async () => {
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

  async function refuseConnectionsFor(ms: number, more: Partial<{ goneAfterMs: number }> = {}) {
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

  it('is gone after FLEET_GONE_AFTER_MS, and not earlier', async () => {
    assert.equal((await refuseConnectionsFor(GONE_AFTER_MS - 1)).liveness.of(B), 'unresponsive');
    assert.equal((await refuseConnectionsFor(GONE_AFTER_MS)).liveness.of(B), 'gone');
  });

  it('is not a candidate, however recent its last request is', () => {
    const liveness = createTestLiveness(createTestClock(), { goneAfterMs: GONE_AFTER_MS });
    liveness.onList(listed(B));
    liveness.onRequestFrom(B);
    liveness.onConnectFailed(B, true);
    for (let i = 0; i < 2; i += 1) liveness.onMissedHeartbeat(B);
    assert.deepEqual(liveness.candidates(), []);
  });

  it('is never gone with FLEET_GONE_AFTER_MS=0', async () => {
    const { liveness } = await refuseConnectionsFor(GONE_AFTER_MS, { goneAfterMs: 0 });
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is no longer gone once it accepts a connection', async () => {
    const { liveness } = await refuseConnectionsFor(GONE_AFTER_MS);
    liveness.onConnected(B);
    assert.notEqual(liveness.of(B), 'gone');
  });

  it('is not gone because of connections that time out', async () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, { goneAfterMs: GONE_AFTER_MS });
    liveness.onList(listed(B));
    liveness.onConnectFailed(B, false);
    await clock.advance(GONE_AFTER_MS);
    liveness.onConnectFailed(B, false);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is not gone if a connection attempt timed out in between', async () => {
    const { clock, liveness } = await refuseConnectionsFor(GONE_AFTER_MS - 1);
    liveness.onConnectFailed(B, false);
    await clock.advance(1);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('is not gone without recent connection attempts: this Machine was suspended', async () => {
    const { clock, liveness } = await refuseConnectionsFor(1_000);
    await clock.advance(GONE_AFTER_MS);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });

  it('must refuse connections again after it has responded', async () => {
    const { clock, liveness } = await refuseConnectionsFor(GONE_AFTER_MS - 1);
    liveness.onResponse(B);
    await clock.advance(1);
    liveness.onConnectFailed(B, true);
    assert.equal(liveness.of(B), 'unresponsive');
  });
});

describe('a Machine that has announced that it sleeps', () => {
  const AWAKE = { version: 2, takesSessions: true, region: undefined } as const;
  const ASLEEP = { ...AWAKE, takesSessions: false, isAsleep: true } as const;

  function startAsleep(options: Parameters<typeof createTestLiveness>[1] = {}): {
    readonly clock: TestClock;
    readonly liveness: Liveness;
  } {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, { ownerStopped: 'gone', ...options });
    read(liveness, { ms: 0, running: true });
    liveness.onStatus(B, AWAKE);
    liveness.onStatus(B, ASLEEP);
    return { clock, liveness };
  }

  it('is asleep while the directory still lists it as running, and as stopped, however long', () => {
    const { liveness } = startAsleep();
    assert.equal(liveness.of(B), 'asleep');
    for (let ms = 5_000; ms < 100 * MIN_ABSENCE_MS; ms += 5_000) {
      read(liveness, { ms });
      assert.equal(liveness.of(B), 'asleep');
    }
  });

  it('is neither unresponsive nor gone by what it misses, and gets no new sessions', async () => {
    const { clock, liveness } = startAsleep({ goneAfterMs: 1_000 });
    for (let misses = 0; misses < 10; misses += 1) {
      liveness.onMissedHeartbeat(B);
      liveness.onNoResponse(B);
      liveness.onConnectFailed(B, true);
      await clock.advance(REFUSALS_IN_ROW_MS / 2);
    }
    assert.deepEqual([liveness.of(B), liveness.missingHeartbeats()], ['asleep', []]);
    assert.deepEqual([liveness.candidates(), liveness.isFleetProbed()], [[], true]);
    assert.equal(liveness.isConfirmedGone(B), false);
  });

  it('is awake by its next status only', () => {
    const { liveness } = startAsleep();
    liveness.onResponse(B);
    liveness.onRequestFrom(B);
    assert.equal(liveness.of(B), 'asleep');
    liveness.onStatus(B, AWAKE);
    assert.deepEqual([liveness.of(B), liveness.sleepers()], ['running', []]);
  });

  it('is gone once it was destroyed', () => {
    const { liveness } = startAsleep();
    for (const ms of [10_000, 25_000, 40_000]) read(liveness, { ms, deployed: false });
    assert.equal(liveness.of(B), 'gone');
  });

  it('is known to those that were told by another one, unless it runs', () => {
    const clock = createTestClock();
    const liveness = createTestLiveness(clock, { ownerStopped: 'gone', self: SELF });
    read(liveness, { ms: 0, running: true });
    liveness.onStatus(C, { ...AWAKE, sleepers: [B, SELF] });
    assert.equal(liveness.of(B), 'running');
    read(liveness, { ms: 1_000 });
    liveness.onStatus(C, { ...AWAKE, sleepers: [B, SELF] });
    assert.equal(liveness.of(B), 'asleep');
    assert.deepEqual(liveness.sleepers(), [B]);
  });

  it('is one of a bounded number', () => {
    const { liveness } = startAsleep({ maxMachines: 1 });
    liveness.onStatus(C, ASLEEP);
    assert.deepEqual(liveness.sleepers(), [C]);
  });
});
