/**
 * The store in memory: for tests, for `memory:`, and in place of a file that can't be opened. The
 * process's end loses everything. Writes keep it within its bounds plus one percent.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Binding, MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { applyCopy, applyWrite } from './rules.ts';
import type { Outcome, Write } from './rules.ts';
import {
  createEvictionQueues,
  evictAllExcess,
  evictExcess,
  removeExpired,
  visitAll,
  walk,
  walkInPages,
} from './eviction-queues.ts';
import type { EvictionQueues } from './eviction-queues.ts';
import { StoreError } from './store.ts';
import type { LocalStore, Owners, StoreLimits, StoreMetrics, PeerCopy, PeerPage } from './store.ts';
import { peerPageOf } from './peer-pages.ts';
import { createStoreCounters, createWriteMethods } from './write-methods.ts';
import type { StoreCounters } from './write-methods.ts';

export function createMemoryStore(options: { clock: Clock; limits: StoreLimits }): LocalStore {
  const { clock, limits } = options;
  const queues = createEvictionQueues();
  const counters = createStoreCounters();
  let isClosed = false;

  const assertOpen = (): void => {
    if (isClosed) throw new StoreError('closed', 'the session store is closed');
  };
  const perform = (write: Write): Outcome => {
    assertOpen();
    const found = queues.find(write.key);
    const outcome = applyWrite(write, found, limits.maxAgeMs);
    if (outcome.after === undefined) queues.remove(write.key);
    else if (outcome.after !== found) {
      queues.put(outcome.after, write.kind === 'expireWithin' ? undefined : found);
      evictExcess(queues, limits.maxSessions, 'roughly');
    }
    return outcome;
  };

  return {
    kind: 'memory',
    isShared: false,
    lookup: (key) => {
      if (isClosed) return 'unknown';
      counters.lookups += 1;
      const found = queues.find(key);
      return found && found.expiresAt > clock.now() ? found : 'absent';
    },
    ...createWriteMethods(clock, counters, perform),
    cleanup: async () => {
      assertOpen();
      const expired = await removeExpired(queues, clock);
      counters.lastCleanupAt = clock.now();
      return expired + (await evictAllExcess(queues, limits.maxSessions));
    },
    entries: async function* () {
      assertOpen();
      for await (const binding of walk(queues)) {
        assertOpen();
        if (binding.expiresAt > clock.now()) yield binding;
      }
      assertOpen();
    },
    pages: (owners) => pagesFor(owners, queues, clock, assertOpen),
    addCopies: (copies) =>
      new Promise((resolve) => {
        // An exception becomes a rejection.
        assertOpen();
        resolve(enterAll(queues, copies, clock, limits));
      }),
    getMetrics: async () => {
      assertOpen();
      return measure(queues, counters, clock);
    },
    close: () => {
      isClosed = true;
      queues.clear();
      return Promise.resolve();
    },
  };
}

async function* pagesFor(
  owners: Owners,
  queues: EvictionQueues,
  clock: Clock,
  assertOpen: () => void,
): AsyncGenerator<PeerPage> {
  const isOwner = ownerFilter(owners);
  const matches = ({ machine, expiresAt }: Binding): boolean =>
    expiresAt > clock.now() && isOwner(machine);
  assertOpen();
  for (const page of walkInPages(queues, matches)) {
    yield peerPageOf(page, Math.floor(clock.now()));
    await nextTurn();
    assertOpen();
  }
}

/**
 * A copy that was used last belongs behind all others of its queue, but there is no colder place.
 */
function enterAll(
  queues: EvictionQueues,
  copies: readonly PeerCopy[],
  clock: Clock,
  { maxAgeMs, maxSessions }: StoreLimits,
): number {
  let entered = 0;
  const now = Math.floor(clock.now());
  for (const copy of copies) {
    const found = queues.find(copy.key);
    const after = applyCopy(copy, now, found, maxAgeMs);
    if (after === undefined) continue;
    queues.put(after, found);
    entered += 1;
  }
  evictExcess(queues, maxSessions, 'roughly');
  return entered;
}

function ownerFilter(owners: Owners): (machine: MachineId) => boolean {
  if ('only' in owners) return (machine) => machine === owners.only;
  const excepted = new Set(owners.except);
  return (machine) => !excepted.has(machine);
}

async function measure(
  queues: EvictionQueues,
  counters: StoreCounters,
  clock: Clock,
): Promise<StoreMetrics> {
  let expired = 0;
  await visitAll(queues, ({ expiresAt }) => {
    if (expiresAt <= clock.now()) expired += 1;
  });
  return { total: queues.count(), expired, sizeBytes: 0, ...counters };
}
