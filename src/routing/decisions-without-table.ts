/** What is decided before the decision table is asked, and after an attempt that it had decided on. */
import type { MachineId } from '../session.ts';
import type { RowText } from './decision-rows.ts';
import type { Decision } from './decision.ts';
import type { RoutingFacts } from './facts.ts';

/** For requests whose session is not looked up. */
export const EARLY_DECISIONS = {
  'malformed-request': { kind: 'refuse', status: 400, why: 'malformed-request' },
  'loop-detected': { kind: 'refuse', status: 508, why: 'loop-detected' },
  overloaded: { kind: 'refuse', status: 503, why: 'overloaded' },
  'conflicting-ids': { kind: 'refuse', status: 400, why: 'conflicting-ids' },
  'app-starting': { kind: 'refuse', status: 503, why: 'app-starting' },
} as const satisfies Readonly<Record<string, Decision>>;

/** Another Machine won the claim. For a peer's forward: its next request finds the winner. */
export function decideLostClaim(
  from: RoutingFacts['from'],
  canBeReplayed: boolean,
  to: MachineId,
): Decision {
  if (from === 'peer') return { kind: 'refuse', status: 421, why: 'moved' };
  if (!canBeReplayed) return { kind: 'forward', to, why: 'claim-lost' };
  return { kind: 'replay', to, why: 'claim-lost', form: 'resilient', invalidatesCache: false };
}

/**
 * A forward to the place of a new session failed, so the session starts here. `owner`: the owner in this
 * Machine's store. The place may still have the session: only its own response can rule that out.
 */
export function decideUnreachedPlace(owner: MachineId | undefined, self: MachineId): Decision {
  const served = { kind: 'local', why: 'placed', mayClaim: true } as const;
  const isTakenOver = owner !== undefined && owner !== self;
  return isTakenOver ? { ...served, takeOverFrom: owner } : { ...served, isInDoubt: true };
}

/** Their rows in `README.md`, behind those of the table. */
export const OTHER_ROWS: readonly RowText[] = [
  { number: 43, decision: 'refuse 400', whys: ['malformed-request'] },
  { number: 44, decision: 'refuse 508', whys: ['loop-detected'] },
  { number: 45, decision: 'refuse 503', whys: ['overloaded'] },
  { number: 46, decision: 'refuse 400', whys: ['conflicting-ids'] },
  { number: 47, decision: 'refuse 503', whys: ['app-starting'] },
  { number: 48, decision: 'refuse 421', whys: ['moved'] },
  { number: 49, decision: 'forward', whys: ['claim-lost'] },
  { number: 50, decision: 'replay', whys: ['claim-lost'] },
  { number: 51, decision: 'local, may take over', whys: ['placed'] },
  { number: 52, decision: 'local, may claim, in doubt', whys: ['placed'] },
];
