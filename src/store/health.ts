/** The status of a store, for the readiness response, the metrics and the log. */
import type { StoreErrorCode } from './store.ts';

/** What an operator should know about a store. */
export interface StoreHealth {
  /** `recovering`: the store works again, and pending changes are being flushed to it. */
  readonly state: 'healthy' | 'degraded' | 'recovering';
  /** What does not work; `all` if there is no store. */
  readonly failing: 'none' | 'reads' | 'writes' | 'all';
  /** The last failure while something fails. */
  readonly code: StoreErrorCode | undefined;
  readonly reason: string | undefined;
  /** How long it has not been healthy, in ms. */
  readonly forMs: number;
  readonly writeBack: {
    readonly depth: number;
    /** Of the oldest one, in ms. */
    readonly ageMs: number;
    /** Whether it outlives a restart. */
    readonly isDurable: boolean;
  };
}

/** The outcome of a change that was accepted while its store failed: a closed set, for labels. */
export const WRITE_BACK_RESULTS = ['written', 'conflict', 'dropped'] as const;
/**
 * `conflict`: another Machine has bound the key meanwhile, and keeps it. `dropped`: too many were
 * waiting.
 */
export type WriteBackResult = (typeof WRITE_BACK_RESULTS)[number];
