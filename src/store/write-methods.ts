/**
 * The write methods of the port on top of one function that performs a {@link Write}, with
 * counters.
 */
import type { Clock } from '../clock.ts';
import type { Binding } from '../session.ts';
import type { Outcome, Write } from './rules.ts';
import type { OnStoreOperation, SessionStore, StoreMetrics, StoreOperation } from './store.ts';

/** What has been done since the store was opened. */
export type StoreCounters = {
  -readonly [
    Name in Exclude<keyof StoreMetrics, 'total' | 'expired' | 'sizeBytes'>
  ]: StoreMetrics[Name];
};

type WriteMethods = Pick<
  SessionStore,
  'claim' | 'upsert' | 'rebind' | 'touch' | 'expireWithin' | 'delete'
>;

export function createStoreCounters(): StoreCounters {
  return { lookups: 0, upserts: 0, deletes: 0, errors: 0, lastCleanupAt: undefined };
}

/** What `perform` throws, a {@link StoreError}, is passed on. */
export function createWriteMethods(
  clock: Clock,
  counters: StoreCounters,
  perform: (write: Write) => Outcome | Promise<Outcome>,
): WriteMethods {
  const performCounted = async (write: Write): Promise<Outcome> => {
    const outcome = await perform(write);
    countWrite(counters, write, outcome);
    return outcome;
  };
  const now = (): number => Math.floor(clock.now());
  return {
    claim: async ({ key, machine, origin, ttlMs }) =>
      bound(await performCounted({ kind: 'claim', now: now(), key, machine, origin, ttlMs })),
    upsert: async ({ key, machine, origin, generation, createdAt, ttlMs }) =>
      bound(
        await performCounted({
          kind: 'upsert',
          now: now(),
          key,
          machine,
          origin,
          generation,
          createdAt,
          ttlMs,
        }),
      ),
    rebind: async (key, from, to, origin, ttlMs) =>
      (await performCounted({ kind: 'rebind', now: now(), key, from, to, origin, ttlMs })).after,
    touch: async (key, ttlMs) =>
      (await performCounted({ kind: 'touch', now: now(), key, ttlMs })).hasTakenEffect,
    expireWithin: async (key, ttlMs) =>
      (await performCounted({ kind: 'expireWithin', now: now(), key, ttlMs })).hasTakenEffect,
    delete: async (key, ifMachine) =>
      (await performCounted({ kind: 'delete', now: now(), key, ifMachine })).hasTakenEffect,
  };
}

export function countWrite(counters: StoreCounters, write: Write, outcome: Outcome): void {
  if (!outcome.hasTakenEffect) return;
  if (write.kind === 'delete') counters.deletes += 1;
  if (write.kind === 'claim' || write.kind === 'upsert' || write.kind === 'rebind') {
    counters.upserts += 1;
  }
}

/** A claim and an upsert leave the key bound to some Machine. */
function bound(outcome: Outcome): Binding {
  if (outcome.after === undefined) throw new Error('a claim or upsert left its key unbound');
  return outcome.after;
}

/** Passes on what `run` gives or throws. */
type Timed = <Result>(operation: StoreOperation, run: () => Promise<Result>) => Promise<Result>;

export function createTimed(
  clock: Clock,
  counters: Pick<StoreCounters, 'errors'>,
  onOperation: OnStoreOperation | undefined,
): Timed {
  return async (operation, run) => {
    const startedAt = clock.monotonicMs();
    try {
      const result = await run();
      onOperation?.(operation, 'ok', clock.monotonicMs() - startedAt);
      return result;
    } catch (error) {
      counters.errors += 1;
      onOperation?.(operation, 'error', clock.monotonicMs() - startedAt);
      throw error;
    }
  };
}

/**
 * Rejects with the store's error. For a write that extends or removes a binding the port reports
 * only whether there was one, so `after` is undefined then.
 */
export async function performWrite(store: SessionStore, write: Write): Promise<Outcome> {
  switch (write.kind) {
    case 'claim': {
      const after = await store.claim(write);
      return { after, hasTakenEffect: after.machine === write.machine };
    }
    case 'upsert': {
      const { createdAt, ...stated } = write;
      const after = await store.upsert(createdAt === undefined ? stated : { ...stated, createdAt });
      return { after, hasTakenEffect: after.machine === write.machine };
    }
    case 'rebind': {
      const { key, from, to, origin, ttlMs } = write;
      const after = await store.rebind(key, from, to, origin, ttlMs);
      return { after, hasTakenEffect: after?.machine === to };
    }
    case 'touch':
      return { after: undefined, hasTakenEffect: await store.touch(write.key, write.ttlMs) };
    case 'expireWithin':
      return { after: undefined, hasTakenEffect: await store.expireWithin(write.key, write.ttlMs) };
    case 'delete':
      return { after: undefined, hasTakenEffect: await store.delete(write.key, write.ifMachine) };
  }
}

interface CumulativeCounts {
  /**
   * The counts of a store that may be replaced, plus those of its wrapper (`beside`). `held` is the store's,
   * undefined if the store was not asked: then the previous values stay.
   */
  add(
    store: object | undefined,
    held: StoreMetrics | undefined,
    beside: StoreCounters,
  ): StoreCounters;
}

const COUNTED = ['lookups', 'upserts', 'deletes', 'errors'] as const;
type Counts = Record<(typeof COUNTED)[number], number>;

const NONE: Counts = { lookups: 0, upserts: 0, deletes: 0, errors: 0 };

export function createCumulativeCounts(): CumulativeCounts {
  let ofFormer = NONE;
  let ofLast: StoreMetrics | undefined;
  let last: object | undefined;
  return {
    add: (store, held, beside) => {
      if (held) {
        if (store !== last && ofLast) ofFormer = sum(ofFormer, ofLast);
        last = store;
        ofLast = held;
      }
      const counts = sum(sum(ofFormer, ofLast ?? NONE), beside);
      return { ...counts, lastCleanupAt: ofLast?.lastCleanupAt ?? beside.lastCleanupAt };
    },
  };
}

function sum(some: Counts, more: Counts): Counts {
  const total = { ...NONE };
  for (const name of COUNTED) total[name] = some[name] + more[name];
  return total;
}
