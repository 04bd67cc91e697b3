/** Where a request goes: the decision table of the design, a pure function of what is known. */
import type { LivenessState } from '../fleet/liveness.ts';
import type { MachineId } from '../session.ts';
import type { Decision, NotAccepting, ReplayForm, Why } from './decision.ts';

/** What a request says of its way so far, and of itself. All of it could have been written by a client. */
export interface RoutingFacts {
  readonly from: 'edge' | 'peer';
  readonly hasId: boolean;
  /** Whose ids these are: a client may bring its own to any Machine, an app accepts only what it minted. */
  readonly mintedBy: 'app' | 'client' | 'either';
  /** A peer has forwarded it here for a new session (see {@link decidePlaced}). */
  readonly isPlaced: boolean;
  /** A sidecar has replayed it: `fly-replay-src` carries our mark, or names a peer of an older version. */
  readonly wasReplayed: boolean;
  /** The Machine whose sidecar has, if the edge names it. */
  readonly replayedBy: MachineId | undefined;
  /** `fly-replay-src` names this peer and carries no mark: its app has replayed it, as a rule. */
  readonly unmarkedFrom: MachineId | undefined;
  /** It carries `fly-replay-failed`: the edge may not replay it again. */
  readonly cameBackByFallback: boolean;
  /** It carries `fly-replay-src`, marked or not. */
  readonly hasReplaySource: boolean;
  /** Whom the edge could not reach, by `fly-replay-failed` or `fly-preferred-instance-unavailable`. */
  readonly undeliveredTo: MachineId | undefined;
  /** `fly-replay-cache-status: hit`: the edge chose this Machine from its cache, we have not replayed yet. */
  readonly isFromReplayCache: boolean;
  /** No `Transfer-Encoding`, and a length within the limit; no length is no body. */
  readonly isReplayable: boolean;
}

/** Who owns the session, by store, hint and peers. */
export type Owner =
  | {
      readonly kind: 'machine';
      readonly machine: MachineId;
      /** `cookie`: no session is known, but the Machine that has served this client before. */
      readonly knownBy: 'store' | 'hint' | 'peers' | 'cookie';
      /** How the id came to its owner, where the store knows. */
      readonly origin?: 'learned' | 'adopted' | 'copied';
      readonly liveness: LivenessState;
      /** All the peers have said that the session is not theirs; one that is silent may have it. */
      readonly isUncontested?: boolean;
    }
  /**
   * Everyone who could know has said no. `isInFlightHere`: a request of that session is being served here,
   * and its app has not accepted it yet.
   */
  | { readonly kind: 'none'; readonly isInFlightHere?: true }
  /**
   * Somebody who could know has not answered. `mayBeOurs`: our own store is among them; `isShed`:
   * nobody was asked, as the source of the request asks too much.
   */
  | { readonly kind: 'inconclusive'; readonly mayBeOurs: boolean; readonly isShed?: boolean };

export type KnownOwner = Owner & { readonly kind: 'machine' };

export interface MachineState {
  readonly self: MachineId;
  /** Set while this Machine takes no new sessions. */
  readonly notAccepting: NotAccepting | undefined;
  readonly hasOtherMachines: boolean;
  readonly ownerGone: 'reject' | 'adopt';
  readonly unknownSession: 'serve' | 'reject';
  /** `cacheable`: the edge's replay cache is to keep what it may. */
  readonly replays: 'resilient' | 'cacheable';
  /** The Machine on which a new session of the request's id is placed; undefined: there is no id. */
  readonly placedOn: MachineId | undefined;
  /** Whether of each peer it is known that it answers, or that it does not. */
  readonly isFleetProbed: boolean;
}

/** The first line that matches decides; the rows are those of the design's table. */
export function decide(known: RoutingFacts, owner: Owner, state: MachineState): Decision {
  if (known.from === 'peer') return decideForPeer(known, owner, state);
  if (isReplayOfApp(known, owner, state)) return APP_REPLAY;
  const facts = known.unmarkedFrom === undefined ? known : { ...known, wasReplayed: true };
  if (!facts.hasId) return decideWithoutId(facts, owner, state);
  if (owner.kind !== 'machine') return decideUnowned(facts, owner, state);
  if (owner.machine === state.self) return decideOwn(facts, owner);
  if (wasUndelivered(facts, owner.machine)) return decideUndelivered(facts, owner, state);
  if (owner.liveness === 'gone') return decideGone(facts, owner, state);
  return bringTo(facts, owner, state);
}

/** Its app named this Machine, or any: served here, and nothing that the request carries is claimed. */
const APP_REPLAY: Decision = { kind: 'local', why: 'app-replay', mayClaim: false };

/**
 * Sidecars mark their replays, so an unmarked one is its app's (LiteFS, fly-ruby). Only replays for the
 * edge's cache are unmarked too: such a one is its app's if it comes from the owner itself, as no
 * sidecar sends away what its own app has.
 */
function isReplayOfApp(
  { unmarkedFrom, hasId }: RoutingFacts,
  owner: Owner,
  { replays }: MachineState,
): boolean {
  if (unmarkedFrom === undefined) return false;
  if (replays === 'resilient') return true;
  return owner.kind === 'machine' ? owner.machine === unmarkedFrom : !hasId;
}

/** Rows 7 to 9. */
function bringTo(facts: RoutingFacts, owner: KnownOwner, state: MachineState): Decision {
  if (facts.wasReplayed || facts.cameBackByFallback) return forward(owner, 'moved-since-replay');
  if (!facts.isReplayable) return forward(owner, 'too-large-to-replay');
  if (owner.liveness === 'unreachable-from-edge') return forward(owner, 'detour');
  return replay(facts, owner, state);
}

/**
 * Whether the edge says that it could not bring the request to that Machine. It names one; what
 * names another says nothing of this one. Where it names none it means the one that we had named.
 */
export function wasUndelivered(
  { cameBackByFallback, undeliveredTo }: Pick<RoutingFacts, 'cameBackByFallback' | 'undeliveredTo'>,
  machine: MachineId,
): boolean {
  return undeliveredTo === undefined ? cameBackByFallback : undeliveredTo === machine;
}

/**
 * Rows 1 and 2: what a peer sends stays here or is refused, so that no loop is possible. The peer may
 * have got our name from a hint, which anyone may write to an id that clients mint: such an id is
 * served and not adopted, as nobody else was asked for it. For a new session that the peer has placed
 * here, the others were asked.
 */
function decideForPeer(facts: RoutingFacts, owner: Owner, state: MachineState): Decision {
  const isElsewhere =
    owner.kind === 'machine' &&
    owner.machine !== state.self &&
    (owner.knownBy === 'store' || facts.isPlaced);
  if (isElsewhere) return { kind: 'refuse', status: 421, why: 'moved' };
  if (facts.isPlaced && owner.kind !== 'machine') return serveNew(owner, state, 'peer-hop');
  return { kind: 'local', why: 'peer-hop', mayClaim: facts.mintedBy === 'app' };
}

/** Rows 3 and 4, and what an affinity cookie makes of them. */
function decideWithoutId(facts: RoutingFacts, owner: Owner, state: MachineState): Decision {
  const named = owner.kind === 'machine' && !isLost(facts, owner) ? owner : undefined;
  if (!named) {
    return sendElsewhere(facts, state) ?? { kind: 'local', why: 'no-session', mayClaim: false };
  }
  if (named.machine === state.self) return { kind: 'local', why: 'owner', mayClaim: false };
  if (wasUndelivered(facts, named.machine)) return forward(named, 'owner-unreachable');
  return bringTo(facts, named, state);
}

/**
 * Whether whoever the cookie names can't serve, so that anybody may. It is gone; or it does not run,
 * by the directory, and the edge could not reach it, or another Machine has sent the request on; or
 * nobody knows it, and no replay can be tried. One that runs and is silent is not lost (invariant 11).
 */
function isLost(facts: RoutingFacts, { machine, liveness: presence }: KnownOwner): boolean {
  if (presence === 'gone') return true;
  if (presence !== 'stopped' && presence !== 'unlisted') return false;
  const wasTried = facts.wasReplayed || wasUndelivered(facts, machine);
  return wasTried || (presence === 'unlisted' && !facts.isReplayable);
}

/**
 * Row 5. A session known by its hint alone is one whose store was lost: it may be adopted again, as
 * the hint named this Machine. Anyone may write such a hint to an id that clients mint, so there it
 * takes the peers' word too.
 */
function decideOwn(facts: RoutingFacts, owner: KnownOwner): Decision {
  const isNobodyElses = facts.mintedBy === 'app' || owner.isUncontested === true;
  const mayClaim = owner.knownBy === 'hint' && isNobodyElses;
  return { kind: 'local', why: 'owner', mayClaim: mayClaim };
}

/**
 * Row 6: the edge could not reach the owner and may not try again. The private network may: to a
 * Machine at its hard limit the edge delivers nothing, and a forward goes through.
 */
function decideUndelivered(facts: RoutingFacts, owner: KnownOwner, state: MachineState): Decision {
  if (owner.knownBy === 'peers') {
    return { kind: 'forward', to: owner.machine, why: 'owner-unreachable' };
  }
  if (owner.liveness === 'gone') return decideGone(facts, owner, state);
  const isListed = owner.liveness === 'running' || owner.liveness === 'unreachable-from-edge';
  if (isListed) return forward(owner, 'owner-unreachable');
  // A preference wakes nobody, and the one replay, which does, has not been made.
  const isToBeWoken = owner.liveness !== 'unresponsive' && !facts.cameBackByFallback;
  return isToBeWoken ? bringTo(facts, owner, state) : UNREACHABLE;
}

/**
 * Row 6 for an owner that no replay can reach any more, on the first pass already. That it is gone
 * says nothing of a session that has moved before: a peer that is silent may have it (invariant 11).
 */
function decideGone(facts: RoutingFacts, owner: KnownOwner, state: MachineState): Decision {
  if (owner.isUncontested !== true) return UNREACHABLE;
  const goesOn =
    state.ownerGone === 'adopt' || owner.origin === 'adopted' || facts.mintedBy === 'client';
  if (!goesOn) return { kind: 'refuse', status: 404, why: 'owner-gone' };
  // All its clients meet again where a new session of that id would be placed.
  if (!isPlacedHere(state)) return bringToPlace(facts, state);
  const local = { kind: 'local', why: 'owner-gone', mayClaim: true } as const;
  // An owner known by its hint alone has no row here that could be moved: the id is claimed anew.
  return owner.knownBy === 'store' ? { ...local, takeOverFrom: owner.machine } : local;
}

const UNREACHABLE: Decision = { kind: 'refuse', status: 503, why: 'owner-unreachable' };

/** Whoever has just met its silence need not wait for it again. */
function forward({ machine, liveness: presence }: KnownOwner, why: Why): Decision {
  return presence === 'unresponsive' ? UNREACHABLE : { kind: 'forward', to: machine, why };
}

/**
 * Row 9. To an owner that has not answered us the edge may still have a way, but tries it briefly.
 * What the replay cache keeps is bare, so it is for owners that run. A replay that undoes an entry
 * of the cache is not kept anyway: it is resilient, as the edge has just been wrong once.
 */
function replay(
  { isFromReplayCache: invalidatesCache, hasReplaySource }: RoutingFacts,
  { machine: to, liveness: presence, knownBy }: KnownOwner,
  { replays }: MachineState,
): Decision {
  // A bare replay tells nobody that it was made: of what was replayed before it could be a loop.
  const mayBeKept =
    replays === 'cacheable' &&
    presence === 'running' &&
    !invalidatesCache &&
    !hasReplaySource &&
    knownBy !== 'peers';
  const form = mayBeKept ? 'bare' : FORMS[presence];
  return { kind: 'replay', to, why: 'not-owner', form, invalidatesCache };
}

/** One that runs answers at once or not at all; one that does not has to be woken first. */
const FORMS: Readonly<Record<LivenessState, ReplayForm>> = {
  running: 'resilient',
  'unreachable-from-edge': 'resilient',
  unresponsive: 'brief',
  stopped: 'waking',
  unlisted: 'waking',
  gone: 'waking',
};

/** Rows 10 and 11. */
function decideUnowned(facts: RoutingFacts, owner: Unowned, state: MachineState): Decision {
  if (facts.mintedBy !== 'app') return decidePlaced(facts, owner, state);
  const elsewhere = sendElsewhere(facts, state);
  if (elsewhere) return elsewhere;
  if (state.unknownSession === 'reject') return reject(owner);
  // An app that has not minted the id can only tell its client something wrong of it.
  const isAnothers = owner.kind === 'inconclusive' && !owner.mayBeOurs;
  if (isAnothers) return { kind: 'refuse', status: 503, why: 'peers-inconclusive' };
  // An id that only the app can have minted is adopted just where somebody named this Machine.
  return serveUnknown(owner, owner.kind === 'none' && facts.wasReplayed);
}

type Unowned = Owner & { readonly kind: 'none' | 'inconclusive' };

/** A 404 makes a client give its session up; silence is no reason to (invariant 11). */
function reject({ kind }: Unowned): Decision {
  if (kind === 'none') return { kind: 'refuse', status: 404, why: 'unknown-session' };
  return { kind: 'refuse', status: 503, why: 'peers-inconclusive' };
}

/**
 * An id that its client may have minted, and nobody has: a new session, as a rule. It goes to the
 * Machine that all Machines compute for it, so that clients which arrive together meet, and is
 * claimed only there. A Machine that is silent stops nobody: should it own the session, the two
 * claims are compared once it is back.
 */
function decidePlaced(facts: RoutingFacts, owner: Unowned, state: MachineState): Decision {
  const isUnclear = owner.kind === 'inconclusive' && !state.isFleetProbed;
  if (isUnclear) return { kind: 'refuse', status: 503, why: 'peers-inconclusive' };
  // Peers bring its clients here: they would be sent in circles while this Machine drains.
  const isInFlightHere = owner.kind === 'none' && owner.isInFlightHere === true;
  if (isInFlightHere || isPlacedHere(state)) return serveNew(owner, state);
  if (isShed(owner)) return OVERLOADED;
  return bringToPlace(facts, state);
}

function isPlacedHere({ placedOn, self }: MachineState): boolean {
  return placedOn === undefined || placedOn === self;
}

/** Whether nobody was asked for it: then it may be anybody's, and is placed nowhere. */
function isShed(owner: Unowned): boolean {
  return owner.kind === 'inconclusive' && owner.isShed === true;
}

const OVERLOADED: Decision = { kind: 'refuse', status: 503, why: 'overloaded' };

function serveNew(owner: Unowned, state: MachineState, why?: Why): Decision {
  if (isShed(owner)) return OVERLOADED;
  if (state.unknownSession === 'reject') return reject(owner);
  return serveUnknown(owner, true, why);
}

function serveUnknown({ kind }: Unowned, mayClaim: boolean, why?: Why): Decision {
  if (kind === 'none') return { kind: 'local', why: why ?? 'unknown-session', mayClaim: mayClaim };
  return { kind: 'local', why: why ?? 'peers-inconclusive', mayClaim: mayClaim, isInDoubt: true };
}

/** By a replay, or by one forward where the replay is used up or can't be made. Never for the edge's cache. */
function bringToPlace(facts: RoutingFacts, { placedOn: to, self }: MachineState): Decision {
  const machine = to ?? self;
  const isReplayUsedUp =
    facts.wasReplayed || facts.cameBackByFallback || wasUndelivered(facts, machine);
  if (isReplayUsedUp || !facts.isReplayable) return { kind: 'forward', to: machine, why: 'placed' };
  const { isFromReplayCache: invalidatesCache } = facts;
  return { kind: 'replay', to: machine, why: 'placed', form: 'resilient', invalidatesCache };
}

/** A new session goes to another Machine while this one takes none: once, and only if there is one. */
function sendElsewhere(facts: RoutingFacts, state: MachineState): Decision | undefined {
  const isFirstPass = !facts.wasReplayed && !facts.cameBackByFallback;
  if (state.notAccepting === undefined || !isFirstPass) return undefined;
  if (!facts.isReplayable || !state.hasOtherMachines) return undefined;
  return { kind: 'elsewhere', why: state.notAccepting };
}
