/** Where a request goes: the decision table of the design, a pure function of what is known. */
import type { MachineId } from './session.ts';

/** Every reason there is: log field, metric label and test expectation at once. */
export const WHYS = [
  'moved',
  'peer-hop',
  'draining',
  'full',
  'upstream-down',
  'no-session',
  'owner',
  'owner-unreachable',
  'owner-gone',
  'moved-since-replay',
  'too-large-to-replay',
  'not-owner',
  'unknown-session',
  'peers-inconclusive',
  'conflicting-ids',
  'malformed-request',
] as const;
export type Why = (typeof WHYS)[number];

/** Why this Machine takes no new sessions. */
export type NotTaking = 'draining' | 'full' | 'upstream-down';

/** What a request says of its way so far, and of itself. All of it could have been written by a client. */
export interface RoutingFacts {
  readonly from: 'edge' | 'peer';
  readonly hasId: boolean;
  /** Whose ids these are: a client may bring its own to any Machine, an app accepts only what it minted. */
  readonly mintedBy: 'app' | 'client' | 'either';
  /** It carries `fly-replay-src`. */
  readonly wasReplayed: boolean;
  /** It carries `fly-replay-failed`: the edge may not replay it again. */
  readonly cameBackByFallback: boolean;
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
      readonly knownBy: 'store' | 'hint' | 'peers';
      /** How the id came to its owner, where the store knows. */
      readonly origin?: 'learned' | 'adopted' | 'copied';
      /** Two readings of the directory, ten seconds apart or more, listed us and not the owner. */
      readonly isConfirmedGone: boolean;
      /** All the peers have said that the session is not theirs; one that is silent may have it. */
      readonly isUncontested?: boolean;
    }
  /** Everyone who could know has said no. */
  | { readonly kind: 'none' }
  /** Somebody who could know has not answered; `mayBeOurs`: our own store is among them. */
  | { readonly kind: 'inconclusive'; readonly mayBeOurs: boolean };

export interface MachineState {
  readonly self: MachineId;
  /** Set while this Machine takes no new sessions. */
  readonly notTaking: NotTaking | undefined;
  readonly hasOtherMachines: boolean;
  readonly ownerGone: 'reject' | 'adopt';
  readonly unknownSession: 'serve' | 'reject';
}

export type Decision =
  /** `mayAdopt`: if the app accepts the id, it becomes ours; `adoptFrom`: taken over from a Machine that is gone. */
  | {
      readonly kind: 'local';
      readonly why: Why;
      readonly mayAdopt: boolean;
      readonly adoptFrom?: MachineId;
    }
  | {
      readonly kind: 'replay';
      readonly to: MachineId;
      readonly why: Why;
      readonly invalidatesCache: boolean;
    }
  | { readonly kind: 'elsewhere'; readonly why: Why }
  | { readonly kind: 'forward'; readonly to: MachineId; readonly why: Why }
  | { readonly kind: 'refuse'; readonly status: 400 | 404 | 421 | 503; readonly why: Why };

export type DecisionKind = Decision['kind'];
export const DECISION_KINDS = ['local', 'replay', 'elsewhere', 'forward', 'refuse'] as const;

/** The first line that matches decides; the numbers are the rows of the design's table. */
export function decide(facts: RoutingFacts, owner: Owner, state: MachineState): Decision {
  if (facts.from === 'peer') return decideForPeer(facts, owner, state);
  if (!facts.hasId) return decideWithoutId(facts, state);
  if (owner.kind !== 'machine') return decideUnowned(facts, owner, state);
  if (owner.machine === state.self) return decideOwn(facts, owner);
  if (facts.cameBackByFallback) return decideAfterFallback(facts, owner, state);
  const to = owner.machine;
  if (facts.wasReplayed) return { kind: 'forward', to, why: 'moved-since-replay' };
  if (!facts.isReplayable) return { kind: 'forward', to, why: 'too-large-to-replay' };
  return { kind: 'replay', to, why: 'not-owner', invalidatesCache: facts.isFromReplayCache };
}

/**
 * Rows 1 and 2: what a peer sends stays here or is refused, so that no loop is possible. The peer may
 * have got our name from a hint, which anyone may write to an id that clients mint: such an id is
 * served and not adopted, as nobody else was asked for it.
 */
function decideForPeer(facts: RoutingFacts, owner: Owner, state: MachineState): Decision {
  const isElsewhere =
    owner.kind === 'machine' && owner.machine !== state.self && owner.knownBy === 'store';
  if (isElsewhere) return { kind: 'refuse', status: 421, why: 'moved' };
  return { kind: 'local', why: 'peer-hop', mayAdopt: facts.mintedBy === 'app' };
}

/** Rows 3 and 4. */
function decideWithoutId(facts: RoutingFacts, state: MachineState): Decision {
  return sendElsewhere(facts, state) ?? { kind: 'local', why: 'no-session', mayAdopt: false };
}

/**
 * Row 5. A session known by its hint alone is one whose store was lost: it may be adopted again, as
 * the hint named this Machine. Anyone may write such a hint to an id that clients mint, so there it
 * takes the peers' word too.
 */
function decideOwn(facts: RoutingFacts, owner: Owner & { kind: 'machine' }): Decision {
  const isNobodyElses = facts.mintedBy === 'app' || owner.isUncontested === true;
  const mayAdopt = owner.knownBy === 'hint' && isNobodyElses;
  return { kind: 'local', why: 'owner', mayAdopt };
}

/**
 * Row 6: the edge could not reach the owner and may not try again. That the owner is gone says
 * nothing of a session that has moved before: a peer that is silent may have it (invariant 11).
 */
function decideAfterFallback(
  facts: RoutingFacts,
  owner: Owner & { kind: 'machine' },
  state: MachineState,
): Decision {
  if (owner.knownBy === 'peers') {
    return { kind: 'forward', to: owner.machine, why: 'owner-unreachable' };
  }
  if (!owner.isConfirmedGone || owner.isUncontested !== true) {
    return { kind: 'refuse', status: 503, why: 'owner-unreachable' };
  }
  const isServedHere =
    state.ownerGone === 'adopt' || owner.origin === 'adopted' || facts.mintedBy === 'client';
  if (!isServedHere) return { kind: 'refuse', status: 404, why: 'owner-gone' };
  const local = { kind: 'local', why: 'owner-gone', mayAdopt: true } as const;
  // An owner known by its hint alone has no row here that could be moved: the id is claimed anew.
  return owner.knownBy === 'store' ? { ...local, adoptFrom: owner.machine } : local;
}

/** Rows 10 and 11. */
function decideUnowned(
  facts: RoutingFacts,
  owner: Owner & { kind: 'none' | 'inconclusive' },
  state: MachineState,
): Decision {
  const elsewhere = sendElsewhere(facts, state);
  if (elsewhere) return elsewhere;
  const why = owner.kind === 'none' ? 'unknown-session' : 'peers-inconclusive';
  if (state.unknownSession === 'reject') {
    // A 404 makes a client give its session up; silence is no reason to (invariant 11).
    return { kind: 'refuse', status: owner.kind === 'none' ? 404 : 503, why };
  }
  // The app here has not minted this id, and can only tell its client something wrong of it.
  const isAnothers = owner.kind === 'inconclusive' && !owner.mayBeOurs && facts.mintedBy === 'app';
  if (isAnothers) return { kind: 'refuse', status: 503, why };
  // An id that only the app can have minted is adopted just where somebody named this Machine.
  const isNamed = facts.mintedBy !== 'app' || facts.wasReplayed;
  return { kind: 'local', why, mayAdopt: owner.kind === 'none' && isNamed };
}

/** A new session goes to another Machine while this one takes none: once, and only if there is one. */
function sendElsewhere(facts: RoutingFacts, state: MachineState): Decision | undefined {
  const isFirstPass = !facts.wasReplayed && !facts.cameBackByFallback;
  if (state.notTaking === undefined || !isFirstPass) return undefined;
  if (!facts.isReplayable || !state.hasOtherMachines) return undefined;
  return { kind: 'elsewhere', why: state.notTaking };
}
