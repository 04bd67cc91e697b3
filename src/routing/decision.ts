/** What may be decided about a request, and why. `decide.ts` decides; logs and metrics name it. */
import type { MachineId } from '../session.ts';

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
  'detour',
  'not-owner',
  'unknown-session',
  'placed',
  'claim-lost',
  'app-replay',
  'peers-inconclusive',
  'conflicting-ids',
  'malformed-request',
  'loop-detected',
  'overloaded',
] as const;
export type Why = (typeof WHYS)[number];

/** Why this Machine accepts no new sessions. */
export const NOT_ACCEPTING = ['draining', 'full', 'upstream-down'] as const satisfies Why[];
export type NotAccepting = (typeof NOT_ACCEPTING)[number];

/**
 * How the edge is told to replay:
 * - `resilient`: it tries for a moment, and then brings the request back.
 * - `waking`: the same, for as long as a Machine may take to start.
 * - `brief`: the same, and not for long.
 * - `bare`: without a word that its replay cache does not take; what fails there does not come back.
 */
export type ReplayForm = 'resilient' | 'waking' | 'brief' | 'bare';

export type Decision =
  /**
   * `mayClaim`: if the app accepts the id, it becomes ours; `takeOverFrom`: taken over from a Machine that is
   * gone; `isInDoubt`: a Machine that may own the session has not answered.
   */
  | {
      readonly kind: 'local';
      readonly why: Why;
      readonly mayClaim: boolean;
      readonly takeOverFrom?: MachineId;
      readonly isInDoubt?: true;
    }
  | {
      readonly kind: 'replay';
      readonly to: MachineId;
      readonly why: Why;
      readonly form: ReplayForm;
      readonly invalidatesCache: boolean;
    }
  | { readonly kind: 'elsewhere'; readonly why: Why }
  | { readonly kind: 'forward'; readonly to: MachineId; readonly why: Why }
  | { readonly kind: 'refuse'; readonly status: 400 | 404 | 421 | 503 | 508; readonly why: Why };

export type DecisionKind = Decision['kind'];
export const DECISION_KINDS = ['local', 'replay', 'elsewhere', 'forward', 'refuse'] as const;
