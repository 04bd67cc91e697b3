import type { RequestHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KnownOwner, OwnerLookup } from '../../src/routing/facts.ts';
import type { LivenessState } from '../../src/fleet/liveness.ts';
import { createRequestIdReader, type FoundId } from '../../src/protocols/request-ids.ts';
import type { MachineId, SessionKey } from '../../src/session.ts';
import type { Claim } from '../../src/fleet/messages.ts';
import type { PeerLookup } from '../../src/fleet/peers.ts';
import { OwnerFinder } from '../../src/routing/find-owner.ts';
import type { FoundOwner, LookupFacts, OwnerFinderParts } from '../../src/routing/owner-lookup.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { get, protocolsOf } from '../protocols/heads.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [SELF, B, C] = ['aa', 'bb', 'cc'].map(machineId) as [MachineId, MachineId, MachineId];
const TTL_MS = 600_000;
const FIRST_PASS: LookupFacts = {
  from: 'edge',
  isPlaced: false,
  replayedBy: undefined,
  unmarkedFrom: undefined,
  cameBackByFallback: false,
  undeliveredTo: undefined,
};
const BACK: LookupFacts = { ...FIRST_PASS, cameBackByFallback: true };
const FROM_PEER: LookupFacts = { ...FIRST_PASS, from: 'peer' };
const NONE: PeerLookup = { kind: 'none' };
const UNRESPONSIVE: PeerLookup = { kind: 'inconclusive' };
const CLAIM: Claim = { generation: 3, ttlMs: 5_000, origin: 'learned', createdAt: 7 };
const C_OWNS: PeerLookup = { kind: 'owner', machine: C, generation: 3, ttlMs: 5_000 };

const extract = createRequestIdReader(protocolsOf('mcp,rpc,query:room'), { hints: true });

function found(head: RequestHead): FoundId {
  const extraction = extract(head);
  assert.ok(extraction.kind === 'found');
  return extraction;
}
/** An id that only an app mints. */
const app = (text: string): FoundId => found(get('/', 'mcp-session-id', text));
/** An id that a client may mint. */
const client = (text: string): FoundId => found(get('/', 'x-session-id', text));

interface World {
  readonly bound?: Readonly<Record<string, MachineId>>;
  readonly hints?: boolean;
  /** The number of all bindings. */
  readonly generation?: number;
  readonly isStoreBusy?: boolean;
  /** Another check of the directory finds a new Machine. */
  readonly foundNewMachine?: boolean;
  readonly isDirectoryUnreadable?: boolean;
  readonly isStoreShared?: boolean;
  /** The configuration has no other Machine. */
  readonly isAlone?: boolean;
  /** The peers' responses in sequence; the last one repeats. */
  readonly peers?: readonly PeerLookup[];
  /** Machines that respond no, whatever the others do. */
  readonly denying?: MachineId;
  /** The Machine that announces each queried key before the response arrives. */
  readonly announcing?: MachineId;
  /** Machines with these names. */
  readonly running?: readonly MachineId[];
  readonly gone?: readonly MachineId[];
  readonly unresponsive?: readonly MachineId[];
  readonly detoured?: readonly MachineId[];
  readonly stopped?: readonly MachineId[];
  readonly ownerStopped?: 'wake' | 'gone';
  readonly replays?: 'resilient' | 'cacheable';
  readonly placedBy?: MachineId | undefined;
  /** Ids with a request in flight here. */
  readonly pending?: readonly string[];
  /** The state of a stopped Machine at the second check. */
  readonly startedAtCheck?: readonly MachineId[];
}

interface Finding {
  readonly find: (id: FoundId, pass?: LookupFacts) => FoundOwner | Promise<FoundOwner>;
  readonly queried: SessionKey[];
  /** For each query, whether late responses were awaited. */
  readonly patience: boolean[];
  /** For each check for new Machines, whether a recent reading was enough. */
  readonly hurries: boolean[];
  readonly disowned: [SessionKey, MachineId][];
  readonly checks: () => number;
}

async function finderIn(world: World): Promise<Finding> {
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  for (const [id, machine] of Object.entries(world.bound ?? {})) {
    const origin = machine === SELF ? 'learned' : 'copied';
    const { generation = 1 } = world;
    await memory.upsert({ key: keyOf(id), machine, origin, generation, ttlMs: TTL_MS });
  }
  const store: SessionStore = {
    ...memory,
    isShared: world.isStoreShared ?? false,
    lookup: (key) => (world.isStoreBusy ? 'unknown' : memory.lookup(key)),
  };
  const answers = [...(world.peers ?? [NONE])];
  const queried: SessionKey[] = [];
  const patience: boolean[] = [];
  const hurries: boolean[] = [];
  const disowned: [SessionKey, MachineId][] = [];
  let checks = 0;
  const isStopped = (machine: MachineId): boolean =>
    (world.stopped?.includes(machine) ?? false) &&
    !(checks > 0 && world.startedAtCheck?.includes(machine));
  const isListed = (machine: MachineId): boolean =>
    (world.running ?? [B, C]).includes(machine) ||
    (checks > 0 && (world.startedAtCheck?.includes(machine) ?? false));
  const isRunning = (machine: MachineId): boolean =>
    isListed(machine) && !isStopped(machine) && !world.gone?.includes(machine);
  const directory: OwnerFinderParts['directory'] = {
    findNewMachines: (isHurried = false) => {
      hurries.push(isHurried);
      checks += 1;
      return Promise.resolve(
        world.isDirectoryUnreadable ? undefined : (world.foundNewMachine ?? false),
      );
    },
    peer: (machine) => (isRunning(machine) ? { machine, host: machine, port: 1 } : undefined),
  };
  const livenessOf = (machine: MachineId): LivenessState => {
    if (isRunning(machine)) {
      if (world.unresponsive?.includes(machine)) return 'unresponsive';
      return world.detoured?.includes(machine) ? 'unreachable-from-edge' : 'running';
    }
    if (isStopped(machine)) return world.ownerStopped === 'gone' ? 'gone' : 'stopped';
    return world.gone?.includes(machine) ? 'gone' : 'unlisted';
  };
  const finder = new OwnerFinder({
    clock,
    self: SELF,
    hints: world.hints ?? true,
    store,
    directory,
    replays: world.replays ?? 'resilient',
    liveness: {
      of: livenessOf,
      listing: (machine) =>
        isRunning(machine) ? 'running' : isStopped(machine) ? 'stopped' : 'none',
      isConfirmedGone: (machine) => world.gone?.includes(machine) ?? false,
    },
    isInFlight: (key) => world.pending?.some((id) => keyOf(id) === key) ?? false,
    peers: {
      ask: (key, { waitsForSlowPeers = false, onResponse } = {}) => {
        queried.push(key);
        patience.push(waitsForSlowPeers);
        const { announcing: machine } = world;
        if (machine)
          void memory.upsert({ key, machine, origin: 'copied', generation: 1, ttlMs: TTL_MS });
        const [next = NONE] = answers.length > 1 ? answers.splice(0, 1) : answers;
        if (next.kind === 'owner') onResponse?.(next.machine, CLAIM);
        const listed = world.running ?? [B, C];
        if (next.kind === 'none') for (const machine of listed) onResponse?.(machine, 'no');
        if (world.denying) onResponse?.(world.denying, 'no');
        return Promise.resolve(next);
      },
    },
    onDisowned: (key, machine) => {
      disowned.push([key, machine]);
      void memory.delete(key, machine);
    },
    onOwnPast: world.isAlone ? () => assert.fail('a copy cannot name its own Machine') : undefined,
  });
  return {
    find: (id, pass = FIRST_PASS) =>
      finder.find(id, pass, { source: undefined, placedBy: world.placedBy }),
    queried,
    patience,
    hurries,
    disowned,
    checks: () => checks,
  };
}

const hinted = (machine: MachineId, more: Partial<KnownOwner> = {}): KnownOwner => ({
  kind: 'owner',
  machine,
  knownBy: 'hint',
  liveness: 'running',
  ...more,
});
const BY_PEERS = hinted(C, { knownBy: 'peers' });

describe('the owner of a session', () => {
  test('is the Machine that a copy names, even with no other known Machine', async () => {
    const { find } = await finderIn({ bound: { s: B }, isAlone: true });
    const { owner } = await find(app('s'));
    assert.ok(owner.kind === 'owner' && owner.machine === B);
  });

  test('is found in the store, without a query', async () => {
    const { find, queried } = await finderIn({ bound: { s: B } });
    const ownership = find(app('s~cc'));
    assert.ok(!(ownership instanceof Promise));
    const { owner, binding, key, wholeId } = ownership;
    assert.deepEqual(owner, hinted(B, { knownBy: 'store', origin: 'copied' }));
    assert.deepEqual([binding?.machine, key, wholeId], [B, keyOf('s'), undefined]);
    assert.deepEqual(queried, []);
  });

  // prettier-ignore
  const rows: readonly {
    readonly claim: string;
    readonly world: World;
    readonly id: FoundId;
    readonly pass?: LookupFacts;
    readonly owner: OwnerLookup;
    readonly questions: number;
  }[] = [
    { claim: 'is found in the hint if the store does not know it', world: {}, id: app('s~bb'), owner: hinted(B), questions: 0 },
    { claim: 'is found in the hint if the store returns unknown', world: { isStoreBusy: true }, id: app('s~bb'), owner: hinted(B), questions: 0 },
    { claim: 'is this Machine by a hint on an id that apps mint', world: {}, id: app('s~aa'), owner: hinted(SELF), questions: 0 },
    { claim: 'is queried before a hint of this Machine on a client-minted id is trusted', world: { peers: [C_OWNS] }, id: client('s~aa'), owner: BY_PEERS, questions: 1 },
    { claim: 'is this Machine by such a hint if all the peers respond no', world: {}, id: client('s~aa'), owner: hinted(SELF, { isUncontested: true }), questions: 1 },
    { claim: 'is contested by such a hint if a peer is unresponsive', world: { peers: [UNRESPONSIVE] }, id: client('s~aa'), owner: hinted(SELF, { isUncontested: false }), questions: 1 },
    { claim: 'is reported by a peer if there is no hint', world: { peers: [C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 1 },
    { claim: 'is none if store and peers have none', world: {}, id: app('s'), owner: { kind: 'none' }, questions: 1 },
    { claim: 'is unknown while a peer is unresponsive, with two queries for an id that apps mint', world: { peers: [UNRESPONSIVE] }, id: app('s'), owner: { kind: 'inconclusive', mayBeOurs: false }, questions: 2 },
    { claim: 'is reported by a Machine that has just been discovered', world: { foundNewMachine: true, peers: [NONE, C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is found on such a Machine if client or app may have minted the id', world: { foundNewMachine: true, peers: [NONE, C_OWNS] }, id: client('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is queried once if only its client can have minted the id', world: { foundNewMachine: true, peers: [NONE, C_OWNS] }, id: found(get('/?room=s')), owner: { kind: 'none' }, questions: 1 },
    { claim: 'is reported by a peer that did not respond at first', world: { peers: [UNRESPONSIVE, C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is unknown while a peer is unresponsive, with one query for a client-minted id', world: { peers: [UNRESPONSIVE] }, id: client('s'), owner: { kind: 'inconclusive', mayBeOurs: false }, questions: 1 },
    { claim: 'is unknown while our own store returns unknown, whatever the peers respond', world: { isStoreBusy: true }, id: app('s'), owner: { kind: 'inconclusive', mayBeOurs: true }, questions: 1 },
    { claim: 'is none if a shared store has none, without a query', world: { isStoreShared: true }, id: app('s'), owner: { kind: 'none' }, questions: 0 },
    { claim: 'is not queried on behalf of a peer', world: { peers: [C_OWNS] }, id: app('s~bb'), pass: FROM_PEER, owner: { kind: 'none' }, questions: 0 },
  ];
  for (const { claim, world, id, pass, owner, questions } of rows) {
    test(claim, async () => {
      const { find, queried } = await finderIn(world);
      const ownership = await find(id, pass);
      assert.deepEqual(ownership.owner, owner);
      assert.deepEqual(queried, Array(questions).fill(keyOf('s')));
    });
  }

  test('is awaited when an app may have minted the id, but not in a second query', async () => {
    const { find, patience } = await finderIn({ peers: [UNRESPONSIVE] });
    await find(app('s'));
    assert.deepEqual(patience.splice(0), [true, false]);
    await find(client('s'));
    assert.deepEqual(patience.splice(0), [true]);
    await find(found(get('/?room=lobby')));
    assert.deepEqual(patience, [false]);
  });

  test('is asked for once, and in a hurry, if the id may be a part of the app’s own URLs', async () => {
    const guess = app('s');
    const id = { ...guess, protocol: { ...guess.protocol, isGuess: true } } as const;
    const unresponsive = await finderIn({ peers: [UNRESPONSIVE] });
    await unresponsive.find(id);
    assert.deepEqual([unresponsive.patience, unresponsive.hurries], [[false], []]);
    const responsive = await finderIn({ peers: [NONE] });
    await responsive.find(id);
    await responsive.find(guess);
    assert.deepEqual(responsive.hurries, [true, false]);
  });

  test('is the Machine that announces the session during the query', async () => {
    for (const peers of [[NONE], [UNRESPONSIVE]]) {
      const { find } = await finderIn({ peers, announcing: C });
      const { owner } = await find(client('s'));
      const { kind, machine, knownBy } = owner.kind === 'owner' ? owner : assert.fail();
      assert.deepEqual([kind, machine, knownBy], ['owner', C, 'store']);
    }
  });
});

describe('a request that the edge could not deliver', () => {
  // prettier-ignore
  const rows: readonly {
    readonly claim: string;
    readonly world: World;
    readonly id?: FoundId;
    readonly pass?: LookupFacts;
    readonly owner: object;
  }[] = [
    { claim: 'follows a session that has moved', world: { bound: { s: B }, peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers', liveness: 'running' } },
    { claim: 'finds its owner unchanged, if no other Machine has it', world: { bound: { s: B } }, owner: { machine: B, knownBy: 'store', liveness: 'running', isUncontested: true } },
    { claim: 'finds its owner gone', world: { bound: { s: B }, gone: [B] }, owner: { machine: B, knownBy: 'store', liveness: 'gone', isUncontested: true } },
    { claim: 'finds a hinted owner gone', world: { gone: [B] }, id: app('s~bb'), owner: { machine: B, knownBy: 'hint', liveness: 'gone', isUncontested: true } },
    { claim: 'leaves a gone owner contested while a peer is unresponsive', world: { bound: { s: B }, gone: [B], peers: [UNRESPONSIVE] }, owner: { machine: B, liveness: 'gone', isUncontested: false } },
    { claim: 'leaves a gone hinted owner contested while our own store returns unknown', world: { gone: [B], isStoreBusy: true }, id: app('s~bb'), owner: { machine: B, liveness: 'gone', isUncontested: false } },
    { claim: 'trusts a shared store alone', world: { bound: { s: B }, gone: [B], isStoreShared: true, peers: [UNRESPONSIVE] }, owner: { machine: B, liveness: 'gone', isUncontested: true } },
    { claim: 'is also indicated by a preference for its owner', world: { bound: { s: B }, peers: [C_OWNS] }, pass: { ...FIRST_PASS, undeliveredTo: B }, owner: { machine: C, knownBy: 'peers' } },
    { claim: 'is served where it has come back to, if that is the owner', world: { bound: { s: SELF }, peers: [C_OWNS] }, owner: { machine: SELF, knownBy: 'store' } },
  ];
  for (const { claim, world, id = app('s'), pass = BACK, owner } of rows) {
    test(claim, async () => {
      const { find } = await finderIn(world);
      const ownership = await find(id, pass);
      assert.deepEqual({ ...ownership.owner, ...owner }, ownership.owner);
    });
  }

  test('reveals nothing about an owner other than the Machine that it names', async () => {
    const { find, queried } = await finderIn({ bound: { s: B }, peers: [C_OWNS] });
    const { owner } = await find(app('s'), { ...BACK, undeliveredTo: C });
    assert.deepEqual(owner, hinted(B, { knownBy: 'store', origin: 'copied' }));
    assert.deepEqual(queried, []);
  });

  test('finds an owner that was starting meanwhile', async () => {
    const { find, checks } = await finderIn({
      bound: { s: B },
      stopped: [B],
      startedAtCheck: [B],
    });
    const { owner } = await find(app('s'), BACK);
    assert.deepEqual([owner.kind === 'owner' && owner.liveness, checks()], ['running', 1]);
  });
});

describe('a copy', () => {
  const room = found(get('/?room=lobby'));
  // prettier-ignore
  const rows: readonly (readonly [claim: string, id: FoundId, hints: boolean, origin: string])[] = [
    ['a client has minted an id without a hint, though those of its app would have one', client('s'), true, 'adopted'],
    ['a client or its app has, where no id gets a hint', client('s'), false, 'copied'],
    ['an app has minted an id with a hint', client('s~bb'), true, 'copied'],
    ['an app has minted an id that only apps mint', app('s'), true, 'copied'],
    ['a client has minted an id that no response reveals', room, false, 'adopted'],
  ];
  for (const [claim, id, hints, origin] of rows) {
    test(claim, async () => {
      const { find } = await finderIn({ bound: { s: B, lobby: B }, hints });
      const { owner } = await find(id);
      assert.equal(owner.kind === 'owner' && owner.origin, origin);
    });
  }
});

describe('on the first pass', () => {
  // prettier-ignore
  const rows: readonly {
    readonly claim: string;
    readonly world: World;
    readonly id?: FoundId;
    readonly owner: object;
    readonly questions: number;
  }[] = [
    { claim: 'a stopped owner is started by the replay', world: { bound: { s: B }, stopped: [B] }, owner: { machine: B, liveness: 'stopped' }, questions: 0 },
    { claim: 'a missing response from before it stopped is ignored', world: { bound: { s: B }, stopped: [B], unresponsive: [B] }, owner: { machine: B, liveness: 'stopped' }, questions: 0 },
    { claim: 'a stopped owner that counts as gone may have lost its session to a peer', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone', peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers' }, questions: 1 },
    { claim: 'a stopped owner counts as gone if the peers respond no', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone' }, owner: { machine: B, liveness: 'gone', isUncontested: true }, questions: 1 },
    { claim: 'a stopped owner does not count as gone if it has started since the last reading', world: { bound: { s: B }, stopped: [B], startedAtCheck: [B], ownerStopped: 'gone' }, owner: { machine: B, liveness: 'running' }, questions: 1 },
    { claim: 'a stopped owner counts as gone in a shared store, without a query', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone', isStoreShared: true }, owner: { machine: B, liveness: 'gone', isUncontested: true }, questions: 0 },
    { claim: 'a gone owner may have lost its session to a peer', world: { bound: { s: B }, gone: [B], peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers', liveness: 'running' }, questions: 1 },
    { claim: 'a hinted owner that is gone is gone if the peers respond no', world: { gone: [B] }, id: app('s~bb'), owner: { machine: B, knownBy: 'hint', liveness: 'gone', isUncontested: true }, questions: 1 },
    { claim: 'a gone owner is contested by an unresponsive peer', world: { bound: { s: B }, gone: [B], peers: [UNRESPONSIVE] }, owner: { machine: B, liveness: 'gone', isUncontested: false }, questions: 1 },
    { claim: 'an owner that the edge recently failed to reach is not queried', world: { bound: { s: B }, detoured: [B] }, owner: { machine: B, liveness: 'unreachable-from-edge' }, questions: 0 },
    { claim: 'an owner that has become unresponsive since counts as unresponsive', world: { bound: { s: B }, detoured: [B], unresponsive: [B], peers: [UNRESPONSIVE] }, owner: { machine: B, liveness: 'unresponsive' }, questions: 1 },
    { claim: 'an owner that was recently unresponsive is queried again', world: { bound: { s: B }, unresponsive: [B], peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers' }, questions: 1 },
    { claim: 'an owner that is still unresponsive is reported so', world: { bound: { s: B }, unresponsive: [B], peers: [UNRESPONSIVE] }, owner: { machine: B, liveness: 'unresponsive' }, questions: 1 },
  ];
  for (const { claim, world, id = app('s'), owner, questions } of rows) {
    test(claim, async () => {
      const { find, queried } = await finderIn(world);
      const ownership = await find(id);
      assert.deepEqual({ ...ownership.owner, ...owner }, ownership.owner);
      assert.equal(queried.length, questions);
    });
  }
});

describe('an id that ends like a hint', () => {
  test('has a hint if a Machine has that name', async () => {
    const { find } = await finderIn({ bound: { user: SELF } });
    const { key, wholeId, binding } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId, binding?.machine], [keyOf('user'), undefined, SELF]);
  });

  test('is a whole id if it is bound as a whole, whether an app or a client minted it', async () => {
    for (const id of [app('user~bob'), client('user~bob')]) {
      const { find, queried } = await finderIn({ bound: { 'user~bob': SELF } });
      const { key, wholeId, binding } = await find(id);
      assert.deepEqual([key, wholeId], [keyOf('user~bob'), 'user~bob']);
      assert.equal(binding?.machine, SELF);
      assert.deepEqual(queried, []);
    }
  });

  test('still has a hint if that Machine is gone and had the session', async () => {
    const { find } = await finderIn({ bound: { user: B }, gone: [B] });
    const { key, wholeId, owner } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.equal(owner.kind === 'owner' && owner.liveness, 'gone');
  });

  test('still has a hint if the session of the gone Machine has moved here since', async () => {
    const { find } = await finderIn({ bound: { user: SELF }, generation: 2, gone: [B] });
    const { key, wholeId, owner } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.equal(owner.kind === 'owner' && owner.machine, SELF);
  });

  test('of a client is a whole id if a gone Machine never had the rest of it', async () => {
    const { find } = await finderIn({ bound: { user: SELF }, gone: [B] });
    const { key, wholeId } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user~bb'), 'user~bb']);
  });

  test('of a client is a whole id if the Machine of that name is gone, or never existed', async () => {
    const bob = machineId('bob');
    const { find, queried } = await finderIn({ gone: [bob] });
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId, owner.kind], [keyOf('user~bob'), 'user~bob', 'none']);
    assert.deepEqual(queried, [keyOf('user~bob')]);
  });

  test('of a client has a hint if the Machine of that name is stopped', async () => {
    const bob = machineId('bob');
    const { find } = await finderIn({ stopped: [bob] });
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.deepEqual(owner, hinted(bob, { liveness: 'stopped' }));
  });

  test('of a client has a hint as long as the directory can not be read', async () => {
    const { find } = await finderIn({ isDirectoryUnreadable: true });
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.deepEqual(owner, hinted(machineId('bob'), { liveness: 'unlisted' }));
  });

  test('of a client has a hint if the Machine of that name has just started', async () => {
    const bob = machineId('bob');
    const { find } = await finderIn({ startedAtCheck: [bob] });
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.equal(owner.kind === 'owner' && owner.machine, bob);
  });

  test('of a client is a whole id if no Machine has that name', async () => {
    const { find, checks } = await finderIn({});
    const { key, wholeId, owner } = await find(client('user~42'));
    assert.deepEqual([key, wholeId, owner.kind], [keyOf('user~42'), 'user~42', 'none']);
    assert.ok(checks() > 0);
  });
});

describe('the Machine that a copy names', () => {
  const replayed = { ...FIRST_PASS, replayedBy: B };

  const placed = { ...FROM_PEER, isPlaced: true };

  test('still owns it if it denies a request that it seems to have replayed, and another is unresponsive', async () => {
    const { find, disowned } = await finderIn({
      bound: { s: B },
      peers: [UNRESPONSIVE],
      denying: B,
    });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('does not own it if it denies what it has placed here, though another is unresponsive', async () => {
    const world = { bound: { s: B }, placedBy: B, peers: [UNRESPONSIVE], denying: B };
    const { find, disowned } = await finderIn(world);
    assert.equal((await find(client('s'), placed)).owner.kind, 'inconclusive');
    assert.deepEqual(disowned, [[keyOf('s'), B]]);
  });

  for (const [claim, pass, placedBy] of [
    ['seems to have replayed the request here', replayed, undefined],
    ['has placed the session here', placed, B],
  ] as const) {
    test(`that ${claim} does not own the session if all respond no`, async () => {
      const { find, disowned } = await finderIn({ bound: { s: B }, placedBy, peers: [NONE] });
      assert.equal((await find(client('s'), pass)).owner.kind, 'none');
      assert.deepEqual(disowned, [[keyOf('s'), B]]);
    });

    test(`that ${claim} still owns it if it responds unknown`, async () => {
      const world = { bound: { s: B }, placedBy, peers: [UNRESPONSIVE] };
      const { find, disowned, patience } = await finderIn(world);
      const { owner } = await find(client('s'), pass);
      assert.equal(owner.kind === 'owner' && owner.machine, B);
      assert.deepEqual(disowned, []);
      // A late response is awaited from a Machine that has recently been active.
      assert.deepEqual(patience, [placedBy !== undefined]);
    });
  }

  test('still owns it if another Machine has placed it here', async () => {
    const { find, disowned } = await finderIn({ bound: { s: B }, placedBy: C });
    const { owner } = await find(client('s'), { ...FROM_PEER, isPlaced: true });
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('still owns it if it responds so itself', async () => {
    const { find, disowned } = await finderIn({
      bound: { s: B },
      peers: [{ ...C_OWNS, machine: B }],
    });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('still owns it if only the others were queried, because it is unlisted', async () => {
    const { find, disowned } = await finderIn({ bound: { s: B }, peers: [NONE], running: [C] });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });
});
