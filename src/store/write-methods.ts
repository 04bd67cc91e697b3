/** The writing half of the port on top of one function that performs a {@link Write}, and its counting. */
import type { Clock } from '../clock.ts';
import type { Binding } from '../session.ts';
import type { Outcome, Write } from './rules.ts';
import type { SessionStore, StoreMetrics } from './store.ts';

/** What has been done since the store was opened. */
export type StoreCounters = {
  -readonly [
    Name in Exclude<keyof StoreMetrics, 'total' | 'expired' | 'sizeBytes'>
  ]: StoreMetrics[Name];
};

export type WriteMethods = Pick<
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

/** A claim and an upsert leave the key bound, to whomever. */
function bound(outcome: Outcome): Binding {
  if (outcome.after === undefined) throw new Error('a claim or upsert left its key unbound');
  return outcome.after;
}
