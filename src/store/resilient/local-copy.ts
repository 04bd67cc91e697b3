/**
 * The bindings that this process has recently read from the store or written to it. Lookups use it
 * while the store fails, and it refills a store that has lost bindings.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { applyWrite } from '../rules.ts';
import type { Write } from '../rules.ts';
import {
  createEvictionQueues,
  evictAllExcess,
  evictExcess,
  removeExpired,
  walk,
} from '../eviction-queues.ts';
import type { PeerCopy, StoreLimits } from '../store.ts';

export interface LocalCopy {
  /** The known binding of the key, unless it has expired. */
  find(key: SessionKey): Binding | undefined;
  remember(binding: Binding): void;
  forget(key: SessionKey): void;
  /** Forgets a copy that a newer one from its owner has replaced in the store. */
  forgetOlder(copy: PeerCopy): void;
  /** Applies a write that the store has performed, if the binding is known. */
  apply(write: Write): void;
  entries(): AsyncGenerator<Binding>;
  /** The number of bindings, expired ones that were not cleaned up yet included. */
  count(): number;
  /** Removes expired bindings and those above the bound; returns how many. */
  cleanup(): Promise<number>;
  /** Sets the bound on the number of bindings. */
  setRoom(maxBindings: number): void;
  clear(): void;
}

export function createLocalCopy(clock: Clock, limits: StoreLimits, room: number): LocalCopy {
  const queues = createEvictionQueues();
  let maxBindings = room;

  const find = (key: SessionKey): Binding | undefined => {
    const found = queues.find(key);
    return found && found.expiresAt > clock.now() ? found : undefined;
  };
  const put = (binding: Binding, held: Binding | undefined): void => {
    queues.put(binding, held);
    evictExcess(queues, maxBindings, 'roughly');
  };

  return {
    find,
    remember: (binding) => {
      const held = queues.find(binding.key);
      // Usually the same object: stores have caches of their own.
      if (held !== binding) put(binding, held);
    },
    forget: (key) => {
      if (queues.find(key)) queues.remove(key);
    },
    forgetOlder: ({ key, generation, isFromOwner }) => {
      const known = isFromOwner ? find(key) : undefined;
      if (known?.origin === 'copied' && known.generation < generation) queues.remove(key);
    },
    apply: (write) => {
      const found = find(write.key);
      const { after } = applyWrite(write, found, limits.maxAgeMs);
      if (after === undefined) queues.remove(write.key);
      else if (after !== found) put(after, queues.find(write.key));
    },
    entries: async function* () {
      for await (const binding of walk(queues)) if (binding.expiresAt > clock.now()) yield binding;
    },
    count: () => queues.count(),
    cleanup: async () => {
      const expired = await removeExpired(queues, clock);
      return expired + (await evictAllExcess(queues, maxBindings));
    },
    setRoom: (max) => {
      maxBindings = max;
    },
    clear: () => queues.clear(),
  };
}
