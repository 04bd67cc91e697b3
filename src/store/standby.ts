/**
 * What this process knows of the bindings by itself: those that it has read or written lately. It
 * answers in the place of a store that fails, and takes what can't be written there yet.
 */
import type { Binding, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { applyWrite } from './rules.ts';
import type { Outcome, Write } from './rules.ts';
import { createShelves, evictExcess, removeExpired, walk } from './shelves.ts';
import type { StoreLimits } from './store.ts';

export interface Standby {
  /** What is known of the key and has not expired. */
  find(key: SessionKey): Binding | undefined;
  /** Takes note of what the store holds. */
  remember(binding: Binding): void;
  forget(key: SessionKey): void;
  /** Performs the write here. */
  apply(write: Write): Outcome;
  entries(): AsyncGenerator<Binding>;
  /** Bindings held, expired ones that were not cleaned up yet included. */
  count(): number;
  /** Removes what has expired; returns how many. */
  cleanup(): Promise<number>;
  /** How many bindings it may hold from now on. */
  setRoom(maxBindings: number): void;
  clear(): void;
}

export function createStandby(clock: Clock, limits: StoreLimits, room: number): Standby {
  const shelves = createShelves();
  let maxBindings = room;

  const find = (key: SessionKey): Binding | undefined => {
    const found = shelves.find(key);
    return found && found.expiresAt > clock.now() ? found : undefined;
  };
  const put = (binding: Binding): void => {
    shelves.put(binding, true);
    evictExcess(shelves, maxBindings, 'roughly');
  };

  return {
    find,
    remember: (binding) => {
      // The very object, mostly: stores have caches of their own.
      if (shelves.find(binding.key) !== binding) put(binding);
    },
    forget: (key) => shelves.remove(key),
    apply: (write) => {
      const found = find(write.key);
      const outcome = applyWrite(write, found, limits.maxAgeMs);
      if (outcome.after === undefined) shelves.remove(write.key);
      else if (outcome.after !== found) put(outcome.after);
      return outcome;
    },
    entries: async function* () {
      for await (const binding of walk(shelves)) if (binding.expiresAt > clock.now()) yield binding;
    },
    count: () => shelves.count(),
    cleanup: () => removeExpired(shelves, clock),
    setRoom: (max) => {
      maxBindings = max;
      evictExcess(shelves, maxBindings, 'exactly');
    },
    clear: () => shelves.clear(),
  };
}
