/** Fleets and concurrent requests, for property tests. */
import type { RequestHead } from '../../../src/protocols/heads.ts';
import fc from 'fast-check';
import type { MachineId } from '../../../src/session.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { MACHINES } from './arbitraries.ts';
import type { FleetRow, FleetScript, View } from './fleet-machine.ts';
import type { AppScript } from './machine.ts';
import type { Order } from './steps.ts';
import type { FleetWorld, Sent } from './fleet.ts';

const anyMachine = fc.constantFrom(...MACHINES);
const rarely = fc.integer({ min: 0, max: 4 }).map((n) => n === 4);
const mostly = fc.integer({ min: 0, max: 4 }).map((n) => n !== 4);

function othersOf(machine: MachineId): MachineId[] {
  return MACHINES.filter((other) => other !== machine);
}

/** `tickEvery` of 2 or 3 makes many responses arrive too late. */
const anyOrder: fc.Arbitrary<Order> = fc.record({
  picks: fc.array(fc.nat(40), { maxLength: 60 }),
  tickEvery: fc.constantFrom(0, 0, 3, 11),
});

// Requests

/** Ids that clients mint, ids that clients or apps mint, and an id that apps mint. */
const ROOMS = ['room', 'hall'] as const;
const SESSIONS = ['one', 'two'] as const;
const MINTED = 'minted';

type IdPart = Pick<RequestHead, 'target' | 'rawHeaders'>;

const ROOM_PARTS: readonly IdPart[] = ROOMS.map((room) => ({
  target: `/x?doc=${room}`,
  rawHeaders: [],
}));
const SESSION_PARTS: readonly IdPart[] = SESSIONS.map((id) => ({
  target: '/x',
  rawHeaders: ['x-session-id', id],
}));
const MINTED_PART: IdPart = { target: '/x', rawHeaders: ['mcp-session-id', MINTED] };
const NO_ID: IdPart = { target: '/x', rawHeaders: [] };

/** Mostly a safe request, else one with a body that can or can't be replayed. */
const anyBody = fc.constantFrom<{ method: string; length: readonly string[] }>(
  { method: 'GET', length: [] },
  { method: 'GET', length: [] },
  { method: 'POST', length: ['content-length', '10'] },
  { method: 'POST', length: ['content-length', '1000001'] },
  { method: 'POST', length: ['transfer-encoding', 'chunked'] },
);

function requestsOf(
  parts: readonly IdPart[],
  at: fc.Arbitrary<MachineId> = anyMachine,
): fc.Arbitrary<Sent[]> {
  const one = fc
    .record({ at, part: fc.constantFrom(...parts), body: anyBody })
    .map(({ at: first, part: { target, rawHeaders }, body: { method, length } }) => ({
      at: first,
      head: { method, target, rawHeaders: [...rawHeaders, ...length] },
    }));
  return fc.array(one, { minLength: 1, maxLength: 5 });
}

/** Mostly of one room or one session, so that requests conflict. */
const anyParts = fc.constantFrom(
  ROOM_PARTS.slice(0, 1),
  SESSION_PARTS.slice(0, 1),
  ROOM_PARTS,
  [...ROOM_PARTS.slice(0, 1), ...SESSION_PARTS.slice(0, 1)],
  [MINTED_PART, NO_ID],
  [MINTED_PART, ...ROOM_PARTS.slice(0, 1)],
);
const newParts = fc.constantFrom(
  ...[ROOM_PARTS.slice(0, 1), SESSION_PARTS.slice(0, 1), ROOM_PARTS, SESSION_PARTS],
);

// Rows

interface RowShape {
  readonly text: string;
  readonly owners: readonly MachineId[];
  /** Both own it in the same generation. If false, only the last owns it, and the others did before. */
  readonly isDouble: boolean;
  readonly origins: readonly ('learned' | 'adopted')[];
  /** For each Machine, how many owners behind it is. More than the number of owners means it never knew the session. */
  readonly lags: readonly number[];
}

const anyRowShape = (text: string): fc.Arbitrary<RowShape> =>
  fc.record({
    text: fc.constant(text),
    owners: fc.uniqueArray(anyMachine, { maxLength: 2 }),
    isDouble: fc.boolean(),
    origins: fc.array(fc.constantFrom('learned' as const, 'adopted' as const), {
      ...{ minLength: 2, maxLength: 2 },
    }),
    lags: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 3, maxLength: 3 }),
  });

function rowsOfShape({ text, owners, isDouble, origins, lags }: RowShape): FleetRow[] {
  const key = keyOf(text);
  return MACHINES.flatMap((on, at): FleetRow[] => {
    const isOwner = isDouble ? owners.includes(on) : owners.at(-1) === on;
    const place = isOwner ? owners.indexOf(on) : owners.length - 1 - (lags[at] ?? 0);
    const machine = owners[place];
    // A former owner knows the current owner, or has no row.
    if (machine === undefined || (machine === on && !isOwner)) return [];
    const generation = isDouble ? 1 : place + 1;
    return [
      { key, on, machine, generation, origin: isOwner ? (origins[place] ?? 'adopted') : 'copied' },
    ];
  });
}

const anyRows = fc
  .tuple(...['room', 'one', MINTED].map(anyRowShape))
  .map((shapes) => shapes.flatMap(rowsOfShape));

/** A shared store has one row for each key. */
function ofShared(rows: readonly FleetRow[]): FleetRow[] {
  const owned = rows.filter(({ on, machine }) => on === machine);
  return owned.filter(({ key }, at) => owned.findIndex((row) => row.key === key) === at);
}

// Machines

function anyApp(machine: MachineId): fc.Arbitrary<AppScript> {
  return fc.record({
    status: fc.constantFrom(200, 200, 200, 101, 404, 500),
    mints: fc.option(fc.constant(`new-${machine}`), { nil: undefined }),
    replays: fc.constant(undefined),
  });
}

const anyView = fc.constantFrom<View | 'unlisted'>(
  ...([
    'accepting',
    'accepting',
    'accepting',
    'not-accepting',
    'unresponsive',
    'unknown',
    'old-version',
    'unlisted',
  ] as const),
);

const anyViews = (machine: MachineId): fc.Arbitrary<FleetScript['views']> =>
  fc
    .tuple(...othersOf(machine).map((other) => fc.tuple(fc.constant(other), anyView)))
    .map(
      (views) =>
        Object.fromEntries(views.filter(([, view]) => view !== 'unlisted')) as FleetScript['views'],
    );

function anyScript(machine: MachineId): fc.Arbitrary<FleetScript> {
  return fc.record({
    machine: fc.constant(machine),
    app: anyApp(machine),
    isReachable: mostly,
    answersPeers: mostly,
    isDraining: rarely,
    isStoreBusy: rarely,
    views: anyViews(machine),
    clockAheadMs: fc.constantFrom(0, 0, 3_000, 15_000),
  });
}

function worldOf(
  machines: fc.Arbitrary<FleetScript[]>,
  rows: fc.Arbitrary<FleetRow[]>,
  requests: fc.Arbitrary<Sent[]>,
  order: fc.Arbitrary<Order> = anyOrder,
): fc.Arbitrary<FleetWorld> {
  return fc
    .record({
      machines,
      rows,
      requests,
      order,
      isStoreShared: fc.boolean(),
      duplicates: fc.boolean(),
      hints: mostly,
    })
    .map((world) => (world.isStoreShared ? { ...world, rows: ofShared(world.rows) } : world));
}

const anyScripts: fc.Arbitrary<FleetScript[]> = fc.tuple(...MACHINES.map(anyScript));
const anyRequests = anyParts.chain((parts) => requestsOf(parts));

/** Any fleet: only the rows of the stores are consistent. */
export const anyFleet = worldOf(anyScripts, anyRows, anyRequests);

const ACCEPTS: AppScript = { status: 200, mints: undefined, replays: undefined };
/** Any order of the steps, without delays. */
const timelyOrder = anyOrder.map((order) => ({ ...order, tickEvery: 0 }));

function agreed(
  draining: readonly MachineId[],
  recentlyTimedOut: MachineId | undefined,
): FleetScript[] {
  const viewOf = (machine: MachineId): View => {
    if (machine === recentlyTimedOut) return 'unresponsive';
    return draining.includes(machine) ? 'not-accepting' : 'accepting';
  };
  return MACHINES.map((machine) => ({
    machine,
    app: ACCEPTS,
    isReachable: machine !== recentlyTimedOut,
    answersPeers: machine !== recentlyTimedOut,
    isDraining: draining.includes(machine),
    isStoreBusy: false,
    views: Object.fromEntries(othersOf(machine).map((other) => [other, viewOf(other)])),
    clockAheadMs: 0,
  }));
}

/** All directories agree, all Machines respond, and the apps accept new sessions of ids that clients mint. */
export const agreedFleet = worldOf(
  fc.subarray(MACHINES).map((draining) => agreed(draining, undefined)),
  fc.constant([]),
  newParts.chain((parts) => requestsOf(parts)),
  timelyOrder,
);

export const UNRESPONSIVE = machineId('m2');

/** The same, and one Machine is unresponsive for all. */
export const fleetWithUnresponsive = worldOf(
  fc.subarray(othersOf(UNRESPONSIVE)).map((draining) => agreed(draining, UNRESPONSIVE)),
  fc.constant([]),
  newParts.chain((parts) => requestsOf(parts, fc.constantFrom(...othersOf(UNRESPONSIVE)))),
  timelyOrder,
);

export const PRIMARY = machineId('m1');

/** All apps except the one of the primary replay writes to the primary. */
export const fleetOfReplayingApps = (views: fc.Arbitrary<View>): fc.Arbitrary<FleetWorld> =>
  worldOf(
    fc
      .tuple(fc.array(views, { minLength: 6, maxLength: 6 }), fc.constantFrom(...REPLAYS))
      .map(([seen, replays]) => replaying(seen, replays)),
    anyRows,
    anyParts.chain((parts) => requestsOf(parts)),
    timelyOrder,
  );

const REPLAYS = [`instance=${PRIMARY};state=x`, `instance=${PRIMARY}`] as const;

function replaying(seen: readonly View[], replays: string): FleetScript[] {
  return agreed([], undefined).map((script, at) => ({
    ...script,
    app: script.machine === PRIMARY ? ACCEPTS : { ...ACCEPTS, replays },
    views: Object.fromEntries(
      othersOf(script.machine).map((other, of) => [other, seen[2 * at + of] ?? 'accepting']),
    ),
  }));
}
