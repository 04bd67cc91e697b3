/** The kinds of rows of the decision table: each row has a condition and a decision. */
import type { LivenessState } from '../fleet/liveness.ts';
import type { MachineId } from '../session.ts';
import { NOT_ACCEPTING, type Decision, type ReplayForm, type Why } from './decision.ts';
import {
  isReplayUsedUp,
  type KnownOwner,
  type MachineState,
  type OwnerLookup,
  type RoutingFacts,
} from './facts.ts';

type Given<Owner> = readonly [facts: RoutingFacts, owner: Owner, state: MachineState];
type Condition<Owner> = (...given: Given<Owner>) => boolean;
type Kind<Name extends Decision['kind']> = Decision & { readonly kind: Name };

/** What the README shows of a row, except its condition. */
export interface RowText {
  readonly number: number;
  readonly decision: string;
  readonly whys: readonly Why[];
}

export interface Row<Owner> extends RowText {
  readonly applies: Condition<Owner>;
  readonly decide: (...given: Given<Owner>) => Decision;
}

export const always = (): boolean => true;

export function refuse<Owner = OwnerLookup>(
  number: number,
  status: Kind<'refuse'>['status'],
  why: Why,
  applies: Condition<Owner>,
): Row<Owner> {
  const decision: Decision = { kind: 'refuse', status, why };
  return { number, decision: `refuse ${status}`, whys: [why], applies, decide: () => decision };
}

/** This Machine serves. */
export function local<Owner = OwnerLookup>(
  number: number,
  why: Why,
  applies: Condition<Owner>,
  options: Partial<Pick<Kind<'local'>, 'mayClaim' | 'isInDoubt'>> = {},
): Row<Owner> {
  const decision: Decision = { kind: 'local', why, mayClaim: false, ...options };
  const { mayClaim, isInDoubt } = options;
  const text = `local${mayClaim ? ', may claim' : ''}${isInDoubt ? ', in doubt' : ''}`;
  return { number, decision: text, whys: [why], applies, decide: () => decision };
}

/** This Machine serves, and may claim the session of an owner that is gone. */
export function takeOver(
  number: number,
  why: Why,
  applies: Condition<KnownOwner>,
): Row<KnownOwner> {
  const decide = (...[, { machine: takeOverFrom }]: Given<KnownOwner>): Decision => {
    return { kind: 'local', why, mayClaim: true, takeOverFrom };
  };
  return { number, decision: 'local, may take over', whys: [why], applies, decide };
}

export function forward(number: number, why: Why, applies: Condition<KnownOwner>): Row<KnownOwner> {
  const decide = (...[, { machine: to }]: Given<KnownOwner>): Decision => {
    return { kind: 'forward', to, why };
  };
  return { number, decision: 'forward', whys: [why], applies, decide };
}

/**
 * The edge may still reach an unresponsive owner, so it tries briefly. The replay cache accepts only bare
 * replays, so it is for running owners. A replay that removes a cache entry is not cached anyway, and is
 * resilient: the edge has just failed once.
 */
export function replay(number: number, why: Why): Row<KnownOwner> {
  const decide = (...[facts, owner, { replays }]: Given<KnownOwner>): Decision => {
    const { machine: to, liveness, knownBy } = owner;
    const { isFromReplayCache: invalidatesCache, hasReplaySource } = facts;
    // A bare replay carries no mark, so a second one could make a loop.
    const mayBeCached =
      replays === 'cacheable' &&
      liveness === 'running' &&
      !invalidatesCache &&
      !hasReplaySource &&
      knownBy !== 'peers';
    const form = mayBeCached ? 'bare' : FORMS[liveness];
    return { kind: 'replay', to, why, form, invalidatesCache };
  };
  return { number, decision: 'replay', whys: [why], applies: always, decide };
}

/** A running Machine responds at once or not at all; any other must start first. */
const FORMS: Readonly<Record<LivenessState, ReplayForm>> = {
  running: 'resilient',
  'unreachable-from-edge': 'resilient',
  unresponsive: 'brief',
  asleep: 'waking',
  stopped: 'waking',
  unlisted: 'waking',
  gone: 'waking',
};

/** The Machine on which a new session of the id is placed. */
export function placeOf({ placedOn, self }: MachineState): MachineId {
  return placedOn ?? self;
}

export function forwardToPlace(number: number, applies: Condition<OwnerLookup>): Row<OwnerLookup> {
  const decide = (...[, , state]: Given<OwnerLookup>): Decision => {
    return { kind: 'forward', to: placeOf(state), why: 'placed' };
  };
  return { number, decision: 'forward', whys: ['placed'], applies, decide };
}

/** Never for the edge's cache: no binding is committed yet. */
export function replayToPlace(number: number): Row<OwnerLookup> {
  const decide = (...[facts, , state]: Given<OwnerLookup>): Decision => {
    const { isFromReplayCache: invalidatesCache } = facts;
    return {
      kind: 'replay',
      to: placeOf(state),
      why: 'placed',
      form: 'resilient',
      invalidatesCache,
    };
  };
  return { number, decision: 'replay', whys: ['placed'], applies: always, decide };
}

/** While this Machine accepts no new sessions, the edge sends them to another one: once, and only if there is one. */
export function elsewhere(number: number): Row<OwnerLookup> {
  const applies: Condition<OwnerLookup> = (facts, _, { notAccepting, hasOtherMachines }) =>
    notAccepting !== undefined && mayReplay(facts) && hasOtherMachines;
  const decide = (...[, , { notAccepting = 'draining' }]: Given<OwnerLookup>): Decision => {
    return { kind: 'elsewhere', why: notAccepting };
  };
  return { number, decision: 'elsewhere', whys: NOT_ACCEPTING, applies, decide };
}

/** Whether the edge may and can still replay the request. */
export function mayReplay(facts: RoutingFacts): boolean {
  return !isReplayUsedUp(facts) && facts.isReplayable;
}
