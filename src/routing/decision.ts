/** The possible decisions about a request and their reasons, as logs and metrics name them. */
import type { MachineId } from '../session.ts';

/** All reasons: a log field, a metric label and a test expectation. */
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
  'app-starting',
] as const;
export type Why = (typeof WHYS)[number];

/** Why this Machine accepts no new sessions. */
export const NOT_ACCEPTING = ['draining', 'full', 'upstream-down'] as const satisfies Why[];
export type NotAccepting = (typeof NOT_ACCEPTING)[number];

/**
 * How the edge replays a request:
 * - `resilient`: with a short timeout, after which the edge returns the request to us.
 * - `waking`: the same, with the time that a Machine may take to start.
 * - `brief`: the same, with a very short timeout.
 * - `bare`: without the options that its replay cache does not accept; a failed replay does not return.
 */
export type ReplayForm = 'resilient' | 'waking' | 'brief' | 'bare';

export type Decision =
  /**
   * `mayClaim`: if the app accepts the id, this Machine becomes its owner; `takeOverFrom`: the owner that is
   * gone; `isInDoubt`: a Machine that may own the session has not responded.
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
