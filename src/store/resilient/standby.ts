/**
 * What this process knows the store to hold: what it has read and written there lately. It answers
 * in the place of a store that fails, and fills one that has forgotten.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { applyWrite } from '../rules.ts';
import type { Write } from '../rules.ts';
import { createShelves, evictAllExcess, evictExcess, removeExpired, walk } from '../shelves.ts';
import type { StoreLimits } from '../store.ts';

export interface Standby {
  /** What is known of the key and has not expired. */
  find(key: SessionKey): Binding | undefined;
  remember(binding: Binding): void;
  forget(key: SessionKey): void;
  /** Takes note of a write that the store has performed, if the binding is known. */
  follow(write: Write): void;
  entries(): AsyncGenerator<Binding>;
  /** Bindings held, expired ones that were not cleaned up yet included. */
  count(): number;
  /** Removes what has expired, and what exceeds the room; returns how many. */
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
  const put = (binding: Binding, held: Binding | undefined): void => {
    shelves.put(binding, held);
    evictExcess(shelves, maxBindings, 'roughly');
  };

  return {
    find,
    remember: (binding) => {
      const held = shelves.find(binding.key);
      // The very object, mostly: stores have caches of their own.
      if (held !== binding) put(binding, held);
    },
    forget: (key) => {
      if (shelves.find(key)) shelves.remove(key);
    },
    follow: (write) => {
      const found = find(write.key);
      const { after } = applyWrite(write, found, limits.maxAgeMs);
      if (after === undefined) shelves.remove(write.key);
      else if (after !== found) put(after, shelves.find(write.key));
    },
    entries: async function* () {
      for await (const binding of walk(shelves)) if (binding.expiresAt > clock.now()) yield binding;
    },
    count: () => shelves.count(),
    cleanup: async () => {
      const expired = await removeExpired(shelves, clock);
      return expired + (await evictAllExcess(shelves, maxBindings));
    },
    setRoom: (max) => {
      maxBindings = max;
    },
    clear: () => shelves.clear(),
  };
}
