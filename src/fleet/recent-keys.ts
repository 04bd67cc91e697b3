/** A bounded memory of session keys, each for the same short time. */
import type { SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';

export interface RecentKeys {
  add(key: SessionKey): void;
  has(key: SessionKey): boolean;
  delete(key: SessionKey): void;
}

export interface RecentKeysOptions {
  readonly ttlMs: number;
  /** Beyond it the oldest is forgotten. */
  readonly maxKeys: number;
  readonly clock: Clock;
}

export function createRecentKeys({ ttlMs, maxKeys, clock }: RecentKeysOptions): RecentKeys {
  /** Monotonic ms until which a key is remembered; as all live equally long, the first ends first. */
  const untilMs = new Map<SessionKey, number>();

  const has = (key: SessionKey): boolean => (untilMs.get(key) ?? -Infinity) > clock.monotonicMs();

  return {
    has,
    delete: (key) => void untilMs.delete(key),
    add: (key) => {
      untilMs.delete(key);
      untilMs.set(key, clock.monotonicMs() + ttlMs);
      for (const first of untilMs.keys()) {
        if (untilMs.size <= maxKeys && has(first)) break;
        untilMs.delete(first);
      }
    },
  };
}
