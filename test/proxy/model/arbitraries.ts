/** Worlds and requests for property tests. */
import type { RequestHead } from '../../../src/protocols/heads.ts';
import fc from 'fast-check';
import type { MachineId } from '../../../src/session.ts';
import type { PeerLookup } from '../../../src/fleet/peers.ts';
import { machineId } from '../../support/ids.ts';
import { TTL_MS, type AppScript, type MachineScript, type Row } from './machine.ts';
import type { WorldScript } from './world.ts';

export const MACHINES = ['m1', 'm2', 'm3'].map(machineId);
/** Ids that stores may know. One of them looks like a hinted id. */
const BOUND_IDS = ['alpha', 'beta', 'user~m2'] as const;
const ALL_IDS = ['alpha', ...BOUND_IDS, 'stranger'] as const;
const NOWHERE = machineId('m9');

const anyMachine = fc.constantFrom(...MACHINES);
const anyKnownMachine = fc.constantFrom(...MACHINES, NOWHERE);
const rarely = fc.integer({ min: 0, max: 4 }).map((n) => n === 4);
const mostly = fc.integer({ min: 0, max: 4 }).map((n) => n !== 4);

// Requests

/** Text that looks like a hint, or none. */
const anyHint = fc.constantFrom('', '', '~m1', '~m2', '~m3', '~m9', '~NoMachine', '~');

type IdLocation = 'mcp' | 'query' | 'camel-query' | 'rpc' | 'cookie';
const ID_LOCATIONS: readonly IdLocation[] = ['mcp', 'query', 'camel-query', 'rpc', 'cookie'];

/** The part of a request that carries its id. */
type IdPart = Pick<RequestHead, 'target' | 'rawHeaders'>;

const PARTS: Readonly<Record<IdLocation, (text: string) => IdPart>> = {
  mcp: (text) => ({ target: '/x', rawHeaders: ['Mcp-Session-Id', text] }),
  rpc: (text) => ({ target: '/x', rawHeaders: ['x-session-id', text] }),
  cookie: (text) => ({ target: '/x', rawHeaders: ['cookie', `a=b; sid=${text}`] }),
  query: (text) => ({ target: `/x?session_id=${text}`, rawHeaders: [] }),
  'camel-query': (text) => ({ target: `/x?sessionId=${text}`, rawHeaders: [] }),
};

function anyIdOf(ids: readonly string[], hint: fc.Arbitrary<string>): fc.Arbitrary<IdPart> {
  return fc
    .tuple(fc.constantFrom(...ID_LOCATIONS), fc.constantFrom(...ids), hint)
    .map(([location, id, hintText]) => PARTS[location](id + hintText));
}

/** Headers of the edge or of sidecars that a client may forge, well-formed or not. */
const forgedHeader = fc.tuple(
  fc.constantFrom(
    ...['fly-replay-src', 'Fly-Replay-Failed', 'fly-replay-cache-status', 'fly-replay'],
    ...['fly-preferred-instance-unavailable', 'fly-force-instance-id'],
    ...['x-fly-affinity-target', 'x-fly-affinity-refused', 'connection'],
    'x-fly-affinity-placed',
  ),
  fc.oneof(
    fc.constantFrom(
      ...['instance=m1;region=ams;t=1', 'instance=m2', 'reason=timeout', 'hit', 'miss', 'moved'],
      ...['instance=m1;state=fly-affinity', 'state=fly-affinity', 'instance=other;t=1', 'true'],
      ...['m1', 'm2', 'instance=m3;reason=no_candidate'],
      // The sidecar rejects a Connection header that names other fields before it routes.
      'fly-replay-src, fly-replay-failed, x-forwarded-for',
    ),
    fc.string({ maxLength: 9 }),
  ),
);

const anyLength = fc.constantFrom<readonly string[]>(
  [],
  ['content-length', '0'],
  ['content-length', '1000000'],
  ['content-length', '1000001'],
  ['transfer-encoding', 'chunked'],
);

const anyMethod = fc.constantFrom('GET', 'POST', 'POST', 'DELETE', 'DELETE', 'OPTIONS', 'HEAD');

interface RequestShape {
  readonly ids: readonly string[];
  readonly hint: fc.Arbitrary<string>;
  readonly mayForge: boolean;
}

const ANY_REQUEST: RequestShape = { ids: ALL_IDS, hint: anyHint, mayForge: true };

function requestOf({ ids, hint, mayForge }: RequestShape): fc.Arbitrary<RequestHead> {
  return fc
    .record({
      method: anyMethod,
      id: anyIdOf(ids, hint),
      length: anyLength,
      forged: fc.array(forgedHeader, { maxLength: mayForge ? 3 : 0 }),
    })
    .map(({ method, id, length, forged }) => {
      const { target, rawHeaders } = id;
      return { method, target, rawHeaders: [...rawHeaders, ...length, ...forged.flat()] };
    });
}

/** A request with one id, two, none, or an invalid one. */
const anyRequest: fc.Arbitrary<RequestHead> = fc
  .tuple(requestOf(ANY_REQUEST), anyIdOf(ALL_IDS, anyHint), fc.integer({ min: 0, max: 5 }))
  .map(([request, another, kind]) => {
    if (kind === 0)
      return { ...request, rawHeaders: [...another.rawHeaders, ...request.rawHeaders] };
    if (kind === 1) return { ...request, target: '/x' };
    if (kind === 2) return { ...request, target: `/x?session_id=${'y'.repeat(600)}&sessionId=%00` };
    return request;
  });

// Inconsistent worlds

const anyRow: fc.Arbitrary<Row> = fc.record({
  id: fc.constantFrom(...BOUND_IDS),
  machine: anyKnownMachine,
  origin: fc.constantFrom('learned', 'adopted', 'copied'),
  generation: fc.integer({ min: 1, max: 3 }),
});

const anyApp: fc.Arbitrary<AppScript> = fc.record({
  status: fc.constantFrom(200, 200, 200, 204, 101, 302, 404, 500),
  mints: fc.option(fc.constantFrom('alpha', 'new', 'new~m2'), { nil: undefined }),
  replays: rarely.map((replays) => (replays ? 'elsewhere=true' : undefined)),
});

const anyLookup = (self: MachineId): fc.Arbitrary<PeerLookup> =>
  fc.oneof(
    fc.constant({ kind: 'none' } as const),
    fc.constant({ kind: 'inconclusive' } as const),
    fc.record({
      kind: fc.constant('owner' as const),
      machine: fc.constantFrom(...othersOf(self)),
      generation: fc.integer({ min: 1, max: 3 }),
      ttlMs: fc.constant(TTL_MS),
    }),
  );

function othersOf(machine: MachineId): MachineId[] {
  return MACHINES.filter((other) => other !== machine);
}

function anyScript(machine: MachineId): fc.Arbitrary<MachineScript> {
  return fc
    .record({
      rows: fc.uniqueArray(anyRow, { selector: ({ id }) => id, maxLength: 3 }),
      app: anyApp,
      isGone: rarely,
      isReachable: mostly,
      answersPeers: mostly,
      isDraining: rarely,
      isStoreBusy: rarely,
      lists: fc.oneof(fc.constant(othersOf(machine)), fc.subarray(othersOf(machine))),
      isDirectoryFailing: rarely,
      hasConfirmedGone: fc.boolean(),
      stopped: fc.subarray(othersOf(machine)),
      recentlyTimedOut: fc.subarray(othersOf(machine)),
      unreachableFromEdge: fc.subarray(othersOf(machine)),
      missingHeartbeats: fc.oneof(fc.constant([]), fc.subarray(othersOf(machine))),
      olderVersion: fc.oneof(fc.constant([]), fc.subarray(othersOf(machine))),
      isFleetProbed: mostly,
      scriptedLookup: fc.option(anyLookup(machine), { nil: undefined, freq: 2 }),
    })
    .map((of) => ({ machine, ...of, ...(of.isGone && UNREACHABLE) }));
}

const UNREACHABLE = { isReachable: false, answersPeers: false };

const anySurroundings = {
  ownerGone: fc.constantFrom('reject' as const, 'adopt' as const),
  ownerStopped: fc.constantFrom('wake' as const, 'gone' as const),
  replays: fc.constantFrom('resilient' as const, 'cacheable' as const),
  unknownSession: fc.constantFrom('serve' as const, 'reject' as const),
  hints: mostly,
  first: anyMachine,
  fallbackTo: anyMachine,
  stripsForged: fc.boolean(),
};

export const anyWorld: fc.Arbitrary<WorldScript> = fc.record({
  ...anySurroundings,
  machines: fc.tuple(...MACHINES.map(anyScript)).map(withoutConfirmedGone),
  request: anyRequest,
});

/** A directory does not list a Machine that it confirmed as gone. */
function withoutConfirmedGone(scripts: readonly MachineScript[]): MachineScript[] {
  const gone = scripts.filter(({ isGone }) => isGone).map(({ machine }) => machine);
  return scripts.map((script) => {
    const { lists, hasConfirmedGone } = script;
    if (!hasConfirmedGone) return script;
    return { ...script, lists: lists.filter((machine) => !gone.includes(machine)) };
  });
}

// Worlds in which every session has one owner, and the other Machines may know an earlier owner

/** The owners of a session by generation, from 1. The last one is the current owner. */
interface History {
  readonly id: string;
  readonly owners: readonly MachineId[];
  readonly origin: 'learned' | 'adopted';
}

const anyHistory = (id: string): fc.Arbitrary<History> =>
  fc.record({
    id: fc.constant(id),
    owners: fc.uniqueArray(anyMachine, { minLength: 1, maxLength: 3 }),
    origin: fc.constantFrom('learned', 'adopted'),
  });

/** `lag`: how many owners behind this Machine is. More than the number of owners means it never knew the session. */
function rowOf({ id, owners, origin }: History, self: MachineId, lag: number): Row[] {
  const isOurs = owners.at(-1) === self;
  const generation = owners.length - (isOurs ? 0 : lag);
  const machine = owners[generation - 1];
  // A former owner knows the current owner, or has no row.
  if (machine === undefined || (machine === self && !isOurs)) return [];
  return [{ id, machine, origin: isOurs ? origin : 'copied', generation }];
}

const anyHistories = fc.tuple(...BOUND_IDS.map(anyHistory));
const lagsOf = (lag: fc.Arbitrary<number>) =>
  fc.array(fc.array(lag, { minLength: 3, maxLength: 3 }), { minLength: 3, maxLength: 3 });

function withHistories(
  world: WorldScript,
  histories: readonly History[],
  lags: readonly (readonly number[])[],
): WorldScript {
  const machines = world.machines.map((script, at) => ({
    ...script,
    scriptedLookup: undefined,
    app: { ...script.app, mints: script.app.mints && `new-${script.machine}` },
    rows: histories.flatMap((history, of) => rowOf(history, script.machine, lags[at]?.[of] ?? 0)),
  }));
  return { ...world, machines };
}

export const consistentWorld: fc.Arbitrary<WorldScript> = fc
  .tuple(anyWorld, anyHistories, lagsOf(fc.integer({ min: 0, max: 3 })))
  .map(([world, histories, lags]) => withHistories(world, histories, lags));

interface HealthyWorld {
  readonly world: WorldScript;
  /** The owner of the session of the request. */
  readonly owner: MachineId;
}

/**
 * All Machines run and list each other. Each one knows the owner of a session, or no owner.
 * The client sends exactly the id that it received.
 */
export const healthyWorld: fc.Arbitrary<HealthyWorld> = fc
  .tuple(
    anyWorld,
    anyHistories,
    lagsOf(fc.constantFrom(0, 3)),
    fc.constantFrom(0 as const, 1 as const),
    fc.boolean(),
  )
  .chain(([world, histories, lags, at, isHinted]) => {
    const owner = histories[at]?.owners.at(-1) ?? world.first;
    const hint = isHinted && world.hints ? `~${owner}` : '';
    const machines = world.machines.map((script) => ({
      ...script,
      ...HEALTHY,
      lists: othersOf(script.machine),
    }));
    return requestOf({ ids: [BOUND_IDS[at]], hint: fc.constant(hint), mayForge: false }).map(
      (request) => ({
        world: withHistories({ ...world, machines, request }, histories, lags),
        owner,
      }),
    );
  });

const HEALTHY = {
  isGone: false,
  isReachable: true,
  answersPeers: true,
  isStoreBusy: false,
  isDirectoryFailing: false,
  stopped: [],
  missingHeartbeats: [],
  isFleetProbed: true,
};
