/**
 * The store in memory: for tests, for `memory:`, and in place of a file that can't be had. It
 * forgets everything with the process. Writes keep it within its bounds and one percent.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Binding, MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { applyCopy, applyWrite } from './rules.ts';
import type { Outcome, Write } from './rules.ts';
import {
  createShelves,
  evictAllExcess,
  evictExcess,
  removeExpired,
  visitAll,
  walk,
  walkInPages,
} from './shelves.ts';
import type { Shelves } from './shelves.ts';
import { StoreError } from './store.ts';
import type { LocalStore, Owners, StoreLimits, StoreMetrics, ToldCopy } from './store.ts';
import { toldPageOf } from './told-rows.ts';
import { createStoreCounters, createWriteMethods } from './write-methods.ts';
import type { StoreCounters } from './write-methods.ts';

export function createMemoryStore(options: { clock: Clock; limits: StoreLimits }): LocalStore {
  const { clock, limits } = options;
  const shelves = createShelves();
  const counters = createStoreCounters();
  let isClosed = false;

  const assertOpen = (): void => {
    if (isClosed) throw new StoreError('closed', 'the session store is closed');
  };
  const perform = (write: Write): Outcome => {
    assertOpen();
    const found = shelves.find(write.key);
    const outcome = applyWrite(write, found, limits.maxAgeMs);
    if (outcome.after === undefined) shelves.remove(write.key);
    else if (outcome.after !== found) {
      shelves.put(outcome.after, write.kind === 'expireWithin' ? undefined : found);
      evictExcess(shelves, limits.maxSessions, 'roughly');
    }
    return outcome;
  };

  return {
    kind: 'memory',
    isShared: false,
    lookup: (key) => {
      if (isClosed) return 'unknown';
      counters.lookups += 1;
      const found = shelves.find(key);
      return found && found.expiresAt > clock.now() ? found : 'absent';
    },
    ...createWriteMethods(clock, counters, perform),
    cleanup: async () => {
      assertOpen();
      const expired = await removeExpired(shelves, clock);
      counters.lastCleanupAt = clock.now();
      return expired + (await evictAllExcess(shelves, limits.maxSessions));
    },
    entries: async function* () {
      assertOpen();
      for await (const binding of walk(shelves)) {
        assertOpen();
        if (binding.expiresAt > clock.now()) yield binding;
      }
      assertOpen();
    },
    pages: async function* (owners) {
      const isOwner = ownerFilter(owners);
      const matches = ({ machine, expiresAt }: Binding): boolean =>
        expiresAt > clock.now() && isOwner(machine);
      assertOpen();
      for (const page of walkInPages(shelves, matches)) {
        yield toldPageOf(page, Math.floor(clock.now()));
        await nextTurn();
        assertOpen();
      }
    },
    enter: (copies) =>
      new Promise((resolve) => {
        // What it throws rejects.
        assertOpen();
        resolve(enterAll(shelves, copies, clock, limits));
      }),
    getMetrics: async () => {
      assertOpen();
      return measure(shelves, counters, clock);
    },
    close: () => {
      isClosed = true;
      shelves.clear();
      return Promise.resolve();
    },
  };
}

/** Behind all others of its shelf is where a copy goes that was used last, but there is no colder place. */
function enterAll(
  shelves: Shelves,
  copies: readonly ToldCopy[],
  clock: Clock,
  { maxAgeMs, maxSessions }: StoreLimits,
): number {
  let entered = 0;
  const now = Math.floor(clock.now());
  for (const copy of copies) {
    const found = shelves.find(copy.key);
    const after = applyCopy(copy, now, found, maxAgeMs);
    if (after === undefined) continue;
    shelves.put(after, found);
    entered += 1;
  }
  evictExcess(shelves, maxSessions, 'roughly');
  return entered;
}

function ownerFilter(owners: Owners): (machine: MachineId) => boolean {
  if ('only' in owners) return (machine) => machine === owners.only;
  const excepted = new Set(owners.except);
  return (machine) => !excepted.has(machine);
}

async function measure(
  shelves: Shelves,
  counters: StoreCounters,
  clock: Clock,
): Promise<StoreMetrics> {
  let expired = 0;
  await visitAll(shelves, ({ expiresAt }) => {
    if (expiresAt <= clock.now()) expired += 1;
  });
  return { total: shelves.count(), expired, sizeBytes: 0, ...counters };
}
