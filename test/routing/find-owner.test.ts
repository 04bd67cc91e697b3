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
const SILENT: PeerLookup = { kind: 'inconclusive' };
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
  /** Of all that are bound. */
  readonly generation?: number;
  readonly isStoreBusy?: boolean;
  /** One more look at the directory finds a Machine that was not known. */
  readonly hasNewcomer?: boolean;
  readonly isStoreShared?: boolean;
  /** No other Machine is known to the configuration. */
  readonly isAlone?: boolean;
  /** What the peers answer, one after the other; the last one again and again. */
  readonly peers?: readonly PeerLookup[];
  /** Who says no, whatever the others do. */
  readonly sayingNo?: MachineId;
  /** Who announces each key that is asked for, before the answer is there. */
  readonly announcing?: MachineId;
  /** Machines that are called so. */
  readonly running?: readonly MachineId[];
  readonly gone?: readonly MachineId[];
  readonly silent?: readonly MachineId[];
  readonly detoured?: readonly MachineId[];
  readonly stopped?: readonly MachineId[];
  readonly ownerStopped?: 'wake' | 'gone';
  readonly replays?: 'resilient' | 'cacheable';
  readonly placedBy?: MachineId | undefined;
  /** Ids of which a request is being served here. */
  readonly pending?: readonly string[];
  /** What a stopped Machine has turned to at another look. */
  readonly wokenAtLook?: readonly MachineId[];
}

interface Finding {
  readonly find: (id: FoundId, pass?: LookupFacts) => FoundOwner | Promise<FoundOwner>;
  readonly asked: SessionKey[];
  /** Of each question, whether late answers were waited for. */
  readonly patience: boolean[];
  readonly disowned: [SessionKey, MachineId][];
  readonly looks: () => number;
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
  const asked: SessionKey[] = [];
  const patience: boolean[] = [];
  const disowned: [SessionKey, MachineId][] = [];
  let looks = 0;
  const isStopped = (machine: MachineId): boolean =>
    (world.stopped?.includes(machine) ?? false) &&
    !(looks > 0 && world.wokenAtLook?.includes(machine));
  const isRunning = (machine: MachineId): boolean =>
    (world.running ?? [B, C]).includes(machine) &&
    !isStopped(machine) &&
    !world.gone?.includes(machine);
  const directory: OwnerFinderParts['directory'] = {
    findNewMachines: () => {
      looks += 1;
      return Promise.resolve(world.hasNewcomer ?? false);
    },
    peer: (machine) => (isRunning(machine) ? { machine, host: machine, port: 1 } : undefined),
  };
  const livenessOf = (machine: MachineId): LivenessState => {
    if (isRunning(machine)) {
      if (world.silent?.includes(machine)) return 'unresponsive';
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
        asked.push(key);
        patience.push(waitsForSlowPeers);
        const { announcing: machine } = world;
        if (machine)
          void memory.upsert({ key, machine, origin: 'copied', generation: 1, ttlMs: TTL_MS });
        const [next = NONE] = answers.length > 1 ? answers.splice(0, 1) : answers;
        if (next.kind === 'owner') onResponse?.(next.machine, CLAIM);
        const listed = world.running ?? [B, C];
        if (next.kind === 'none') for (const machine of listed) onResponse?.(machine, 'no');
        if (world.sayingNo) onResponse?.(world.sayingNo, 'no');
        return Promise.resolve(next);
      },
    },
    onDisowned: (key, machine) => {
      disowned.push([key, machine]);
      void memory.delete(key, machine);
    },
    onOwnPast: world.isAlone ? () => assert.fail("a copy is of nobody's own past") : undefined,
  });
  return {
    find: (id, pass = FIRST_PASS) =>
      finder.find(id, pass, { source: undefined, placedBy: world.placedBy }),
    asked,
    patience,
    disowned,
    looks: () => looks,
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

describe('who owns a session', () => {
  test('is whom a copy names, even where no other Machine is known', async () => {
    const { find } = await finderIn({ bound: { s: B }, isAlone: true });
    const { owner } = await find(app('s'));
    assert.ok(owner.kind === 'owner' && owner.machine === B);
  });

  test('is told by the store at once, without a question to anybody', async () => {
    const { find, asked } = await finderIn({ bound: { s: B } });
    const ownership = find(app('s~cc'));
    assert.ok(!(ownership instanceof Promise));
    const { owner, binding, key, wholeId } = ownership;
    assert.deepEqual(owner, hinted(B, { knownBy: 'store', origin: 'copied' }));
    assert.deepEqual([binding?.machine, key, wholeId], [B, keyOf('s'), undefined]);
    assert.deepEqual(asked, []);
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
    { claim: 'is told by the hint if the store does not know', world: {}, id: app('s~bb'), owner: hinted(B), questions: 0 },
    { claim: 'is told by the hint if the store can not tell', world: { isStoreBusy: true }, id: app('s~bb'), owner: hinted(B), questions: 0 },
    { claim: 'is told by a hint of this Machine to an id that apps mint', world: {}, id: app('s~aa'), owner: hinted(SELF), questions: 0 },
    { claim: 'is asked of the peers before a hint of this Machine is believed that a client may have written', world: { peers: [C_OWNS] }, id: client('s~aa'), owner: BY_PEERS, questions: 1 },
    { claim: 'is this Machine by such a hint if all the peers say no', world: {}, id: client('s~aa'), owner: hinted(SELF, { isUncontested: true }), questions: 1 },
    { claim: 'is contested by such a hint if a peer is silent', world: { peers: [SILENT] }, id: client('s~aa'), owner: hinted(SELF, { isUncontested: false }), questions: 1 },
    { claim: 'is told by a peer if there is no hint', world: { peers: [C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 1 },
    { claim: 'is nobody if store and peers say so', world: {}, id: app('s'), owner: { kind: 'none' }, questions: 1 },
    { claim: 'is not known while a peer is silent, asked twice for an id that apps mint', world: { peers: [SILENT] }, id: app('s'), owner: { kind: 'inconclusive', mayBeOurs: false }, questions: 2 },
    { claim: 'is told by a Machine that has just been seen for the first time', world: { hasNewcomer: true, peers: [NONE, C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is found on such a Machine where client or app may have minted the id', world: { hasNewcomer: true, peers: [NONE, C_OWNS] }, id: client('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is asked once where only its client can have minted the id', world: { hasNewcomer: true, peers: [NONE, C_OWNS] }, id: found(get('/?room=s')), owner: { kind: 'none' }, questions: 1 },
    { claim: 'is told by a peer that was silent at first', world: { peers: [SILENT, C_OWNS] }, id: app('s'), owner: BY_PEERS, questions: 2 },
    { claim: 'is not known while a peer is silent, asked once for an id that clients mint', world: { peers: [SILENT] }, id: client('s'), owner: { kind: 'inconclusive', mayBeOurs: false }, questions: 1 },
    { claim: 'is not known while the own store can not tell, whatever the peers say', world: { isStoreBusy: true }, id: app('s'), owner: { kind: 'inconclusive', mayBeOurs: true }, questions: 1 },
    { claim: 'is nobody in a shared store that says so, and nobody else is asked', world: { isStoreShared: true }, id: app('s'), owner: { kind: 'none' }, questions: 0 },
    { claim: 'is not asked about on behalf of a peer', world: { peers: [C_OWNS] }, id: app('s~bb'), pass: FROM_PEER, owner: { kind: 'none' }, questions: 0 },
  ];
  for (const { claim, world, id, pass, owner, questions } of rows) {
    test(claim, async () => {
      const { find, asked } = await finderIn(world);
      const ownership = await find(id, pass);
      assert.deepEqual(ownership.owner, owner);
      assert.deepEqual(asked, Array(questions).fill(keyOf('s')));
    });
  }

  test('is waited for where an app may have minted the id, and what is asked once more is not', async () => {
    const { find, patience } = await finderIn({ peers: [SILENT] });
    await find(app('s'));
    assert.deepEqual(patience.splice(0), [true, false]);
    await find(client('s'));
    assert.deepEqual(patience.splice(0), [true]);
    await find(found(get('/?room=lobby')));
    assert.deepEqual(patience, [false]);
  });

  test('is who announces the session while others are asked for it', async () => {
    for (const peers of [[NONE], [SILENT]]) {
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
    { claim: 'finds its owner where it was, if nobody has it', world: { bound: { s: B } }, owner: { machine: B, knownBy: 'store', liveness: 'running', isUncontested: true } },
    { claim: 'finds its owner gone', world: { bound: { s: B }, gone: [B] }, owner: { machine: B, knownBy: 'store', liveness: 'gone', isUncontested: true } },
    { claim: 'finds a hinted owner gone', world: { gone: [B] }, id: app('s~bb'), owner: { machine: B, knownBy: 'hint', liveness: 'gone', isUncontested: true } },
    { claim: 'is not sure of an owner that is gone while a peer is silent', world: { bound: { s: B }, gone: [B], peers: [SILENT] }, owner: { machine: B, liveness: 'gone', isUncontested: false } },
    { claim: 'is not sure of a hinted owner that is gone while the own store can not tell', world: { gone: [B], isStoreBusy: true }, id: app('s~bb'), owner: { machine: B, liveness: 'gone', isUncontested: false } },
    { claim: 'believes a shared store alone', world: { bound: { s: B }, gone: [B], isStoreShared: true, peers: [SILENT] }, owner: { machine: B, liveness: 'gone', isUncontested: true } },
    { claim: 'is told of by a preference for its owner, too', world: { bound: { s: B }, peers: [C_OWNS] }, pass: { ...FIRST_PASS, undeliveredTo: B }, owner: { machine: C, knownBy: 'peers' } },
    { claim: 'is served where it has come back to, if that is the owner', world: { bound: { s: SELF }, peers: [C_OWNS] }, owner: { machine: SELF, knownBy: 'store' } },
  ];
  for (const { claim, world, id = app('s'), pass = BACK, owner } of rows) {
    test(claim, async () => {
      const { find } = await finderIn(world);
      const ownership = await find(id, pass);
      assert.deepEqual({ ...ownership.owner, ...owner }, ownership.owner);
    });
  }

  test('says nothing of an owner that is not the Machine it names', async () => {
    const { find, asked } = await finderIn({ bound: { s: B }, peers: [C_OWNS] });
    const { owner } = await find(app('s'), { ...BACK, undeliveredTo: C });
    assert.deepEqual(owner, hinted(B, { knownBy: 'store', origin: 'copied' }));
    assert.deepEqual(asked, []);
  });

  test('finds an owner that was waking meanwhile', async () => {
    const { find, looks } = await finderIn({ bound: { s: B }, stopped: [B], wokenAtLook: [B] });
    const { owner } = await find(app('s'), BACK);
    assert.deepEqual([owner.kind === 'owner' && owner.liveness, looks()], ['running', 1]);
  });
});

describe('what is known of a copy', () => {
  const room = found(get('/?room=lobby'));
  // prettier-ignore
  const rows: readonly (readonly [claim: string, id: FoundId, hints: boolean, origin: string])[] = [
    ['a client has minted an id that gets no hint, though those of its app would', client('s'), true, 'adopted'],
    ['a client or its app has, where no id gets a hint', client('s'), false, 'copied'],
    ['an app has minted what has a hint', client('s~bb'), true, 'copied'],
    ['an app has minted what only apps mint', app('s'), true, 'copied'],
    ['a client has minted what no answer teaches', room, false, 'adopted'],
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
    { claim: 'a stopped owner is left to the replay that wakes it', world: { bound: { s: B }, stopped: [B] }, owner: { machine: B, liveness: 'stopped' }, questions: 0 },
    { claim: 'a silence from before it was stopped counts for nothing', world: { bound: { s: B }, stopped: [B], silent: [B] }, owner: { machine: B, liveness: 'stopped' }, questions: 0 },
    { claim: 'a stopped owner that counts as gone may have lost its session to a peer', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone', peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers' }, questions: 1 },
    { claim: 'a stopped owner counts as gone if the peers say no', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone' }, owner: { machine: B, liveness: 'gone', isUncontested: true }, questions: 1 },
    { claim: 'a stopped owner does not count as gone if it has been woken since the last reading', world: { bound: { s: B }, stopped: [B], wokenAtLook: [B], ownerStopped: 'gone' }, owner: { machine: B, liveness: 'running' }, questions: 1 },
    { claim: 'a stopped owner counts as gone in a shared store, and nobody is asked', world: { bound: { s: B }, stopped: [B], ownerStopped: 'gone', isStoreShared: true }, owner: { machine: B, liveness: 'gone', isUncontested: true }, questions: 0 },
    { claim: 'an owner that is gone may have lost its session to a peer', world: { bound: { s: B }, gone: [B], peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers', liveness: 'running' }, questions: 1 },
    { claim: 'a hinted owner that is gone is gone if the peers say no', world: { gone: [B] }, id: app('s~bb'), owner: { machine: B, knownBy: 'hint', liveness: 'gone', isUncontested: true }, questions: 1 },
    { claim: 'an owner that is gone is contested by a silent peer', world: { bound: { s: B }, gone: [B], peers: [SILENT] }, owner: { machine: B, liveness: 'gone', isUncontested: false }, questions: 1 },
    { claim: 'an owner that the edge could not reach just now is not asked for', world: { bound: { s: B }, detoured: [B] }, owner: { machine: B, liveness: 'unreachable-from-edge' }, questions: 0 },
    { claim: 'an owner that has been silent since counts as silent', world: { bound: { s: B }, detoured: [B], silent: [B], peers: [SILENT] }, owner: { machine: B, liveness: 'unresponsive' }, questions: 1 },
    { claim: 'an owner that has just been silent is asked for again', world: { bound: { s: B }, silent: [B], peers: [C_OWNS] }, owner: { machine: C, knownBy: 'peers' }, questions: 1 },
    { claim: 'an owner that is still silent is known to be', world: { bound: { s: B }, silent: [B], peers: [SILENT] }, owner: { machine: B, liveness: 'unresponsive' }, questions: 1 },
  ];
  for (const { claim, world, id = app('s'), owner, questions } of rows) {
    test(claim, async () => {
      const { find, asked } = await finderIn(world);
      const ownership = await find(id);
      assert.deepEqual({ ...ownership.owner, ...owner }, ownership.owner);
      assert.equal(asked.length, questions);
    });
  }
});

describe('an id that ends as a hint does', () => {
  test('is one if a Machine is called so', async () => {
    const { find } = await finderIn({ bound: { user: SELF } });
    const { key, wholeId, binding } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId, binding?.machine], [keyOf('user'), undefined, SELF]);
  });

  test('is whole if it is bound as such, whoever mints it', async () => {
    for (const id of [app('user~bob'), client('user~bob')]) {
      const { find, asked } = await finderIn({ bound: { 'user~bob': SELF } });
      const { key, wholeId, binding } = await find(id);
      assert.deepEqual([key, wholeId], [keyOf('user~bob'), 'user~bob']);
      assert.equal(binding?.machine, SELF);
      assert.deepEqual(asked, []);
    }
  });

  test('is a hint still if the Machine of that name is gone and has had the session', async () => {
    const { find } = await finderIn({ bound: { user: B }, gone: [B] });
    const { key, wholeId, owner } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.equal(owner.kind === 'owner' && owner.liveness, 'gone');
  });

  test('is a hint still if the session of the Machine that is gone has moved here since', async () => {
    const { find } = await finderIn({ bound: { user: SELF }, generation: 2, gone: [B] });
    const { key, wholeId, owner } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.equal(owner.kind === 'owner' && owner.machine, SELF);
  });

  test('of a client is whole if a Machine that is gone never had the rest of it', async () => {
    const { find } = await finderIn({ bound: { user: SELF }, gone: [B] });
    const { key, wholeId } = await find(client('user~bb'));
    assert.deepEqual([key, wholeId], [keyOf('user~bb'), 'user~bb']);
  });

  test('of a client is whole if the Machine of that name is gone, or never was', async () => {
    const bob = machineId('bob');
    const { find, asked } = await finderIn({ gone: [bob] });
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId, owner.kind], [keyOf('user~bob'), 'user~bob', 'none']);
    assert.deepEqual(asked, [keyOf('user~bob')]);
  });

  test('of a client is a hint as long as a Machine of that name may only be stopped', async () => {
    const { find } = await finderIn({});
    const { key, wholeId, owner } = await find(client('user~bob'));
    assert.deepEqual([key, wholeId], [keyOf('user'), undefined]);
    assert.deepEqual(owner, hinted(machineId('bob'), { liveness: 'unlisted' }));
  });
});

describe('the Machine that a copy names', () => {
  const replayed = { ...FIRST_PASS, replayedBy: B };

  const placed = { ...FROM_PEER, isPlaced: true };

  test('has it still if it says no to what it seems to have replayed, and another is silent', async () => {
    const { find, disowned } = await finderIn({ bound: { s: B }, peers: [SILENT], sayingNo: B });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('does not have it if it says no to what it has placed here, though another is silent', async () => {
    const world = { bound: { s: B }, placedBy: B, peers: [SILENT], sayingNo: B };
    const { find, disowned } = await finderIn(world);
    assert.equal((await find(client('s'), placed)).owner.kind, 'inconclusive');
    assert.deepEqual(disowned, [[keyOf('s'), B]]);
  });

  for (const [claim, pass, placedBy] of [
    ['seems to have replayed the request here', replayed, undefined],
    ['has placed the session here', placed, B],
  ] as const) {
    test(`that ${claim} does not have the session if all say so`, async () => {
      const { find, disowned } = await finderIn({ bound: { s: B }, placedBy, peers: [NONE] });
      assert.equal((await find(client('s'), pass)).owner.kind, 'none');
      assert.deepEqual(disowned, [[keyOf('s'), B]]);
    });

    test(`that ${claim} has it still where it can not tell`, async () => {
      const world = { bound: { s: B }, placedBy, peers: [SILENT] };
      const { find, disowned, patience } = await finderIn(world);
      const { owner } = await find(client('s'), pass);
      assert.equal(owner.kind === 'owner' && owner.machine, B);
      assert.deepEqual(disowned, []);
      // Of a Machine that has just shown itself a late answer is waited for.
      assert.deepEqual(patience, [placedBy !== undefined]);
    });
  }

  test('has it still if another Machine has placed it here', async () => {
    const { find, disowned } = await finderIn({ bound: { s: B }, placedBy: C });
    const { owner } = await find(client('s'), { ...FROM_PEER, isPlaced: true });
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('has it still if it says so itself', async () => {
    const { find, disowned } = await finderIn({
      bound: { s: B },
      peers: [{ ...C_OWNS, machine: B }],
    });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });

  test('has it still if the others alone were asked, as it is on no list', async () => {
    const { find, disowned } = await finderIn({ bound: { s: B }, peers: [NONE], running: [C] });
    const { owner } = await find(client('s'), replayed);
    assert.equal(owner.kind === 'owner' && owner.machine, B);
    assert.deepEqual(disowned, []);
  });
});
