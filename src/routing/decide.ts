/**
 * Where a request goes: the decision table, a pure function of the facts. The first row that applies
 * decides. `README.md` describes the condition of each row; a test compares the two.
 */
import {
  always,
  elsewhere,
  forward,
  forwardToPlace,
  local,
  mayReplay,
  placeOf,
  refuse,
  replay,
  replayToPlace,
  takeOver,
  type Row,
  type RowText,
} from './decision-rows.ts';
import type { Decision } from './decision.ts';
import { OTHER_ROWS } from './decisions-without-table.ts';
import {
  isReplayUsedUp,
  wasUndelivered,
  type KnownOwner,
  type MachineState,
  type OwnerLookup,
  type RoutingFacts,
} from './facts.ts';

type NoOwner = OwnerLookup & { readonly kind: 'none' | 'inconclusive' };
type Table<Owner> = readonly Row<Owner>[];
type OnRow = (number: number) => void;

/** `onRow` receives the number of the row that decides. HOT PATH. */
export function decide(
  given: RoutingFacts,
  owner: OwnerLookup,
  state: MachineState,
  onRow?: OnRow,
): Decision {
  if (given.from === 'peer') return firstOf(FROM_PEER, given, owner, state, onRow);
  if (isReplayOfApp(given, owner, state)) return firstOf(OF_APP, given, owner, state, onRow);
  // Any other unmarked replay comes from a sidecar, which made it for the edge's cache.
  const facts = given.unmarkedFrom === undefined ? given : { ...given, wasReplayed: true };
  if (!facts.hasId) {
    return owner.kind === 'owner' && !isLost(facts, owner)
      ? firstOf(OF_COOKIE, facts, owner, state, onRow)
      : firstOf(WITHOUT_ID, facts, owner, state, onRow);
  }
  if (owner.kind === 'owner') return firstOf(tableOf(owner, state), facts, owner, state, onRow);
  const table = facts.mintedBy === 'app' ? UNKNOWN_APP_ID : UNKNOWN_CLIENT_ID;
  return firstOf(table, facts, owner, state, onRow);
}

function tableOf({ machine, liveness }: KnownOwner, { self }: MachineState): Table<KnownOwner> {
  if (machine === self) return OWN;
  return liveness === 'gone' ? OF_GONE : OF_ANOTHER;
}

function firstOf<Owner>(
  table: Table<Owner>,
  facts: RoutingFacts,
  owner: Owner,
  state: MachineState,
  onRow: OnRow | undefined,
): Decision {
  for (const row of table) {
    if (!row.applies(facts, owner, state)) continue;
    onRow?.(row.number);
    return row.decide(facts, owner, state);
  }
  throw new Error('no row of the decision table applies');
}

/**
 * A request of a peer is served here or gets an error response, so no loop is possible. For an id that
 * its client may have minted, no peer was queried and anyone may write a hint: this Machine does not
 * claim it.
 */
// prettier-ignore
const FROM_PEER: Table<OwnerLookup> = [
  refuse(1, 421, 'moved', isOfAnother),
  refuse(2, 503, 'overloaded', (facts, owner) => facts.isPlaced && isShed(owner)),
  refuse(3, 404, 'unknown-session', (facts, owner, state) => facts.isPlaced && owner.kind === 'none' && rejects(facts, state)),
  refuse(4, 503, 'peers-inconclusive', (facts, owner, state) => facts.isPlaced && owner.kind === 'inconclusive' && rejects(facts, state)),
  local(5, 'peer-hop', (facts, owner) => facts.isPlaced && owner.kind === 'none', { mayClaim: true }),
  local(6, 'peer-hop', (facts, owner) => facts.isPlaced && owner.kind === 'inconclusive', { mayClaim: true, isInDoubt: true }),
  local(7, 'peer-hop', (facts) => facts.mintedBy === 'app', { mayClaim: true }),
  local(8, 'peer-hop', always),
];

/** The app of a peer chose this Machine: none of the ids in the request is claimed. */
const OF_APP: Table<OwnerLookup> = [local(9, 'app-replay', always)];

const WITHOUT_ID: Table<OwnerLookup> = [elsewhere(10), local(11, 'no-session', always)];

/** The last rows for the Machine that a cookie names, and for the owner of a session. */
// prettier-ignore
const TO_ANOTHER: Table<KnownOwner> = [
  refuse(12, 503, 'owner-unreachable', (facts, owner) => owner.liveness === 'unresponsive' && !mayReplay(facts)),
  forward(13, 'moved-since-replay', isReplayUsedUp),
  forward(14, 'too-large-to-replay', (facts) => !facts.isReplayable),
  forward(15, 'detour', (_, owner) => owner.liveness === 'unreachable-from-edge'),
  replay(16, 'not-owner'),
];

// prettier-ignore
const OF_COOKIE: Table<KnownOwner> = [
  local(17, 'owner', (_, owner, state) => owner.machine === state.self),
  refuse(18, 503, 'owner-unreachable', (facts, owner) => wasUndelivered(facts, owner.machine) && owner.liveness === 'unresponsive'),
  forward(19, 'owner-unreachable', (facts, owner) => wasUndelivered(facts, owner.machine)),
  ...TO_ANOTHER,
];

/** If only the hint names this Machine, its store has lost the binding of the session. */
// prettier-ignore
const OWN: Table<KnownOwner> = [
  local(20, 'owner', (facts, owner) => owner.knownBy === 'hint' && isOnlyOwner(facts, owner), { mayClaim: true }),
  local(21, 'owner', always),
];

/** The edge delivers nothing to a Machine at its hard limit, but a forward reaches it. */
// prettier-ignore
const OF_ANOTHER: Table<KnownOwner> = [
  local(22, 'owner-unreachable', (facts, owner) => isCacheOnly(facts) && (wasUndelivered(facts, owner.machine) || owner.liveness === 'unresponsive')),
  forward(23, 'owner-unreachable', (facts, owner) => wasUndelivered(facts, owner.machine) && isListed(owner)),
  refuse(24, 503, 'owner-unreachable', (facts, owner) => wasUndelivered(facts, owner.machine) && !isToBeWoken(facts, owner)),
  ...TO_ANOTHER,
];

/** The last rows for a session that goes to the place of its id. */
// prettier-ignore
const TO_PLACE: Table<OwnerLookup> = [
  forwardToPlace(25, (facts, _, state) => !mayReplay(facts) || wasUndelivered(facts, placeOf(state))),
  replayToPlace(26),
];

/**
 * No replay can reach the owner. The session may have moved to a peer that is unresponsive now
 * (invariant 11).
 */
// prettier-ignore
const OF_GONE: Table<KnownOwner> = [
  refuse(27, 503, 'owner-unreachable', (_, owner) => owner.isUncontested !== true),
  refuse(28, 404, 'owner-gone', (facts, owner, state) => !outlivesOwner(facts, owner, state)),
  takeOver(29, 'owner-gone', (_, owner, state) => isPlaceHere(state) && owner.knownBy === 'store'),
  local(30, 'owner-gone', (_, __, state) => isPlaceHere(state), { mayClaim: true }),
  ...TO_PLACE,
];

/** An app rejects an id that it did not mint. */
// prettier-ignore
const UNKNOWN_APP_ID: Table<NoOwner> = [
  elsewhere(31),
  refuse(32, 404, 'unknown-session', (facts, owner, state) => owner.kind === 'none' && rejects(facts, state)),
  refuse(33, 503, 'peers-inconclusive', (facts, owner, state) => owner.kind === 'inconclusive' && (rejects(facts, state) || !owner.mayBeOurs)),
  local(34, 'unknown-session', (facts, owner) => owner.kind === 'none' && facts.wasReplayed, { mayClaim: true }),
  local(35, 'unknown-session', (_, owner) => owner.kind === 'none'),
  local(36, 'peers-inconclusive', always, { isInDoubt: true }),
];

/**
 * Usually a new session. All Machines compute the same place for it, so that clients which arrive
 * together reach the same Machine, and only that one claims it. An unresponsive Machine does not block
 * this: if it owns the session, the two claims are compared when it is back.
 */
// prettier-ignore
const UNKNOWN_CLIENT_ID: Table<NoOwner> = [
  refuse(37, 503, 'peers-inconclusive', (_, owner, state) => owner.kind === 'inconclusive' && !state.isFleetProbed),
  refuse(38, 503, 'overloaded', (_, owner) => isShed(owner)),
  refuse(39, 404, 'unknown-session', (facts, owner, state) => isHere(owner, state) && owner.kind === 'none' && rejects(facts, state)),
  refuse(40, 503, 'peers-inconclusive', (facts, owner, state) => isHere(owner, state) && rejects(facts, state)),
  local(41, 'unknown-session', (_, owner, state) => isHere(owner, state) && owner.kind === 'none', { mayClaim: true }),
  local(42, 'peers-inconclusive', (_, owner, state) => isHere(owner, state), { mayClaim: true, isInDoubt: true }),
  ...TO_PLACE,
];

/** Every row once. */
export const DECISION_ROWS: readonly RowText[] = [
  ...new Set<RowText>(
    [
      ...[FROM_PEER, OF_APP, WITHOUT_ID, OF_COOKIE, OWN, OF_ANOTHER, OF_GONE],
      ...[UNKNOWN_APP_ID, UNKNOWN_CLIENT_ID, OTHER_ROWS],
    ].flat(),
  ),
];

/**
 * Sidecars mark their replays, so an unmarked replay comes from an app (LiteFS, fly-ruby). Only replays
 * for the edge's cache are unmarked too: such a replay comes from an app if it comes from the owner
 * itself, because a sidecar never sends away a session that its own app has.
 */
function isReplayOfApp(
  { unmarkedFrom, hasId }: RoutingFacts,
  owner: OwnerLookup,
  { replays }: MachineState,
): boolean {
  if (unmarkedFrom === undefined) return false;
  if (replays === 'resilient') return true;
  return owner.kind === 'owner' ? owner.machine === unmarkedFrom : !hasId;
}

/**
 * Whether the Machine that a cookie names can't serve, so that any Machine may. It is gone; or the
 * directory lists it as not running and a replay was already tried; or it is unlisted and no replay is
 * possible. A running but unresponsive Machine is not lost (invariant 11).
 */
function isLost(facts: RoutingFacts, { machine, liveness }: KnownOwner): boolean {
  if (liveness === 'gone') return true;
  if (liveness !== 'asleep' && liveness !== 'stopped' && liveness !== 'unlisted') return false;
  const wasTried = facts.wasReplayed || wasUndelivered(facts, machine);
  return wasTried || (liveness === 'unlisted' && !facts.isReplayable);
}

function isOfAnother(facts: RoutingFacts, owner: OwnerLookup, { self }: MachineState): boolean {
  if (owner.kind !== 'owner' || owner.machine === self) return false;
  return owner.knownBy === 'store' || facts.isPlaced;
}

function isShed(owner: OwnerLookup): boolean {
  return owner.kind === 'inconclusive' && owner.isShed === true;
}

/** An app that keeps its sessions elsewhere knows a soft one on every Machine. */
function rejects({ isSoft }: RoutingFacts, { unknownSession }: MachineState): boolean {
  return unknownSession === 'reject' && !isSoft;
}

/** A soft session of a client's own id: each Machine can serve it, and its owner only serves it faster. */
function isCacheOnly({ isSoft, mintedBy }: RoutingFacts): boolean {
  return isSoft && mintedBy === 'client';
}

/** Anyone may write a hint to an id that clients mint, so the responses of all peers are needed too. */
function isOnlyOwner({ mintedBy }: RoutingFacts, { isUncontested }: KnownOwner): boolean {
  return mintedBy === 'app' || isUncontested === true;
}

function isListed({ liveness }: KnownOwner): boolean {
  return liveness === 'running' || liveness === 'unreachable-from-edge';
}

/** A preference does not start a Machine; the one replay, which does, was not made yet. */
function isToBeWoken({ cameBackByFallback }: RoutingFacts, { liveness }: KnownOwner): boolean {
  return liveness !== 'unresponsive' && !cameBackByFallback;
}

/** Whether the session continues without its owner. */
function outlivesOwner(facts: RoutingFacts, { origin }: KnownOwner, state: MachineState): boolean {
  return (
    facts.isSoft ||
    state.ownerGone === 'adopt' ||
    origin === 'adopted' ||
    facts.mintedBy === 'client'
  );
}

function isPlaceHere(state: MachineState): boolean {
  return placeOf(state) === state.self;
}

/** Peers send the clients of a session in flight here; sending them to a new place would make a loop. */
function isHere(owner: NoOwner, state: MachineState): boolean {
  return (owner.kind === 'none' && owner.isInFlightHere === true) || isPlaceHere(state);
}
