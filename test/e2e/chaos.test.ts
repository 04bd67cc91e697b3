/**
 * Machines come and go while 200 sessions are used, and clients name new ones of their own. What
 * happens is a function of the seed. `CHAOS_SEED` names one seed, or several: `1,2,3`; for how long
 * each of them is tried is said by `CHAOS_SECONDS`.
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

/** The same in every run of CI, where nobody wants to be surprised. */
const DEFAULT_SEEDS = '10,11,12';
const SEEDS = (process.env.CHAOS_SEED ?? DEFAULT_SEEDS).split(',').map(Number);
/** Of each seed; a seed that is asked for is tried for longer. */
const DEFAULT_SECONDS = process.env.CHAOS_SEED === undefined ? 20 : 60;
const CHAOS_MS = Number(process.env.CHAOS_SECONDS ?? DEFAULT_SECONDS) * 1_000;
/** For what comes before and after, on a busy computer. */
const TIMEOUT_MS = CHAOS_MS + 300_000;
/** Of each part: the runner's own limit is too short for a long chaos. */
const LONG = { timeout: TIMEOUT_MS };
const MACHINES = 5;
const CLIENT_LEFT = 499;
const CLIENTS = {
  ...{ mcp: 60, rpc: 50, 'socket.io': 40, websocket: 40 },
  ...{ 'MCP SDK': 5, 'socket.io-client': 5 },
};

for (const seed of SEEDS) {
  test(`no session notices that Machines come and go, seed ${seed}:`, LONG, (t) =>
    testSeed(t, seed),
  );
}

async function testSeed(t: TestContext, seed: number): Promise<void> {
  const fleet = await startFleet(t, {
    // Half of the seeds try what sessions without hints have to go through.
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
  await t.test('faults come and go', LONG, () => makeChaos(t, fleet, seed, places));
  await t.test('everything is ready within ten seconds of the last one', () => beReady(places));
  await testEnds(t, fleet, crowd, meetings);
  await t.test('what a Machine counted is what the edge and the log know of it', () =>
    compareCounts(fleet, survivor),
  );
  await t.test('no call goes astray, or takes more than one replay or one forward', async () => {
    await fleet.simulation.close();
    assert.deepEqual(ledger.faults('some-lost'), []);
  });
}

async function testEnds(
  t: TestContext,
  { ledger }: Fleet,
  crowd: Crowd,
  meetings: Meetings,
): Promise<void> {
  let visits: readonly Visit[] = [];
  await t.test('every client has an answer again, of its session or a new one', LONG, async () => {
    visits = await crowd.end();
    for (const line of [...tableOf(visits, ledger), ...cutsOf(visits)]) t.diagnostic(line);
  });
  await t.test('only who was on a Machine that lost its memory has lost a session', () => {
    assert.deepEqual(faultsOf(visits, ledger), []);
  });
  await t.test(
    'clients that have named a session of their own are on one Machine',
    LONG,
    async () => {
      assert.deepEqual(await meetings.end(), []);
      t.diagnostic(`${meetings.count()} sessions of clients' own`);
      await meetings.untilTogether();
    },
  );
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

/** Of a Machine whose processes have lived through all of it. */
async function compareCounts({ ledger }: Fleet, { id, ports }: SimulatedMachine): Promise<void> {
  const ofMachine = () => ledger.decisions.filter(({ machine }) => machine === id);
  // A line comes once the answer has gone out whole.
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
  const told = new Set(fromEdge.map(({ requestId }) => requestId));
  const unlogged = [...known].filter((requestId) => !told.has(requestId));
  assert.deepEqual(unlogged, []);
  // What was given up while it was on its way is none of the edge's hops.
  const givenUp = new Set(
    ledger.records.filter(({ status }) => status === CLIENT_LEFT).map(({ requestId }) => requestId),
  );
  const untold = fromEdge.filter(({ requestId, status }) => {
    return !known.has(requestId) && !givenUp.has(requestId) && status !== CLIENT_LEFT;
  });
  assert.deepEqual(untold, []);
}
