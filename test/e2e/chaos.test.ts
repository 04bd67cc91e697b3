/**
 * Machines stop and start while 200 sessions are used, and clients create new ones with their own
 * ids. The faults depend only on the seed. `CHAOS_SEED` names one seed, or several: `1,2,3`;
 * `CHAOS_SECONDS` sets the duration of each.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { journalNow } from './apps/journal.ts';
import { ADMIN_TOKEN, beginFault } from './chaos/faults.ts';
import { startMeetings, type Meetings } from './chaos/meetings.ts';
import { planRounds, type Round } from './chaos/plan.ts';
import { beReady } from './chaos/readiness.ts';
import { countsOf, requestsTotalAt } from './chaos/requests-total.ts';
import { startCrowd, type Crowd } from './crowd/crowd.ts';
import type { Visit } from './crowd/guest.ts';
import { faultsOf } from './crowd/judge.ts';
import { cutsOf, tableOf } from './crowd/table.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { FROM_PEERS } from './support/ledger.ts';
import { seededRandom } from './support/seeded-random.ts';
import { until } from './support/until.ts';

/** The same in every CI run, so that its results are reproducible. */
const DEFAULT_SEEDS = '10,11,12';
const SEEDS = (process.env.CHAOS_SEED ?? DEFAULT_SEEDS).split(',').map(Number);
/** Per seed; seeds from the environment run longer. */
const DEFAULT_SECONDS = process.env.CHAOS_SEED === undefined ? 20 : 60;
const CHAOS_MS = Number(process.env.CHAOS_SECONDS ?? DEFAULT_SECONDS) * 1_000;
/** For setup and checks, on a busy computer. */
const TIMEOUT_MS = CHAOS_MS + 300_000;
/** Per part: the runner's own limit is too short for a long chaos. */
const LONG = { timeout: TIMEOUT_MS };
const MACHINES = 5;
const CLIENT_LEFT = 499;
const CLIENTS = {
  ...{ mcp: 60, rpc: 50, 'socket.io': 40, websocket: 40 },
  ...{ 'MCP SDK': 5, 'socket.io-client': 5 },
};

for (const seed of SEEDS) {
  test(`no session is affected when Machines stop and start, seed ${seed}:`, LONG, (t) =>
    testSeed(t, seed),
  );
}

async function testSeed(t: TestContext, seed: number): Promise<void> {
  const fleet = await startFleet(t, {
    // Half of the seeds test sessions without hints.
    hints: seed % 2 === 0,
    machineCount: MACHINES,
    env: {
      SESSION_PROTOCOLS: 'mcp,rpc,socket.io,query:room',
      ADMIN_TOKEN,
      REPLAY_TIMEOUT_MS: '1000',
    },
    random: seededRandom(seed),
  });
  const { ledger } = fleet;
  const crowd = startCrowd({ target: fleet.target, seed, clients: CLIENTS });
  t.after(() => crowd.breakOff());
  const places = [...fleet.machines];
  const [survivor] = places;
  assert.ok(survivor);

  await t.test('all clients have a session', () => crowd.arrived());
  const meetings = startMeetings(fleet.target.url);
  await t.test('faults begin and end', LONG, () => makeChaos(t, fleet, seed, places));
  await t.test('every Machine is ready within ten seconds of the last fault', () =>
    beReady(places),
  );
  await testEnds(t, fleet, crowd, meetings);
  await t.test("the metrics of each Machine match the edge's record and the log", () =>
    compareCounts(fleet, survivor),
  );
  await t.test(
    'no call reaches the wrong Machine, or takes more than one replay or one forward',
    async () => {
      await fleet.simulation.close();
      assert.deepEqual(ledger.faults('some-lost'), []);
    },
  );
}

async function testEnds(
  t: TestContext,
  { ledger }: Fleet,
  crowd: Crowd,
  meetings: Meetings,
): Promise<void> {
  let visits: readonly Visit[] = [];
  await t.test(
    'every client gets a response again, in its session or a new one',
    LONG,
    async () => {
      visits = await crowd.end();
      for (const line of [...tableOf(visits, ledger), ...cutsOf(visits)]) t.diagnostic(line);
    },
  );
  await t.test('only clients of a Machine that lost its memory have lost a session', () => {
    assert.deepEqual(faultsOf(visits, ledger), []);
  });
  await t.test('clients that share a client-minted id are on one Machine', LONG, async () => {
    assert.deepEqual(await meetings.end(), []);
    t.diagnostic(`${meetings.count()} sessions of client-minted ids`);
    await meetings.untilTogether();
  });
}

async function makeChaos(
  t: TestContext,
  fleet: Fleet,
  seed: number,
  places: SimulatedMachine[],
): Promise<void> {
  const startedAt = systemClock.monotonicMs();
  for (const round of planRounds(seed, MACHINES)) {
    t.diagnostic(`${Math.round(journalNow())}: ${nameOf(round, places)}`);
    await liveThrough(round, fleet, places);
    if (systemClock.monotonicMs() - startedAt > CHAOS_MS) return;
  }
}

function nameOf({ faults, holdMs }: Round, places: readonly SimulatedMachine[]): string {
  const names = faults.map(({ name, place }) => `${name} ${places[place]?.id ?? place}`);
  return `${names.join(', ')} for ${holdMs} ms`;
}

async function liveThrough(
  { faults, holdMs, pauseMs }: Round,
  fleet: Fleet,
  places: SimulatedMachine[],
): Promise<void> {
  const begun = faults.map(async ({ name, place }) => {
    const machine = places[place];
    assert.ok(machine);
    return { place, end: await beginFault(name, machine, fleet) };
  });
  const ends = await Promise.all(begun);
  await systemClock.sleep(holdMs);
  await Promise.all(
    ends.map(async ({ place, end }) => {
      places[place] = await end();
    }),
  );
  await systemClock.sleep(pauseMs);
}

/** Of a Machine whose processes have run the whole time. */
async function compareCounts({ ledger }: Fleet, { id, ports }: SimulatedMachine): Promise<void> {
  const ofMachine = () => ledger.decisions.filter(({ machine }) => machine === id);
  // A line is written once the response has been sent completely.
  await until(async () => {
    const counted = await requestsTotalAt(ports.admin);
    const logged = countsOf(ofMachine());
    return [...counted]
      .filter(([what, count]) => logged.get(what) !== count)
      .map(([what, count]) => `${what}: ${count} counted, ${logged.get(what) ?? 0} logged`);
  });
  const known = new Set(
    ledger.records.flatMap(({ requestId, hops }) =>
      hops.filter(({ machine }) => machine === id).map(() => requestId),
    ),
  );
  const fromEdge = ofMachine().filter(({ why }) => !FROM_PEERS.has(why));
  const reported = new Set(fromEdge.map(({ requestId }) => requestId));
  const unlogged = [...known].filter((requestId) => !reported.has(requestId));
  assert.deepEqual(unlogged, []);
  // An aborted request is not recorded as a hop by the edge.
  const aborted = new Set(
    ledger.records.filter(({ status }) => status === CLIENT_LEFT).map(({ requestId }) => requestId),
  );
  const unreported = fromEdge.filter(({ requestId, status }) => {
    return !known.has(requestId) && !aborted.has(requestId) && status !== CLIENT_LEFT;
  });
  assert.deepEqual(unreported, []);
}
