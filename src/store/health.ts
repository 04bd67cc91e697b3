/** How a store fares, for the readiness answer, the metrics and the log. */
import type { StoreErrorCode } from './store.ts';

/** What an operator should know of a store. */
export interface StoreHealth {
  /** `recovering`: it works again, and is being told what it has missed. */
  readonly state: 'healthy' | 'degraded' | 'recovering';
  /** What does not work; `all` where there is no store. */
  readonly failing: 'none' | 'reads' | 'writes' | 'all';
  /** Of the last failure while something fails. */
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

/** What becomes of a binding that was accepted while its store failed: as labels, closed. */
export const WRITE_BACK_RESULTS = ['written', 'conflict', 'dropped'] as const;
/** `conflict`: bound elsewhere meanwhile, which stays. `dropped`: too many were waiting. */
export type WriteBackResult = (typeof WRITE_BACK_RESULTS)[number];
