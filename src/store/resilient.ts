/**
 * A store that fails no request: what stands between the request path and a database that may be
 * busy, full, damaged or gone.
 *
 *     lookup ─ queued for write-back? ─ yes ─> standby
 *              └ no ─ reads work ─> store ─ knows ─> answer
 *                     │                   └ can't tell ─> standby
 *                     └ they don't ────────────────────> standby
 *     write ── writes work, key not queued ─> store ─ written within a second ─> done
 *              │                                    └ failed, or too slow ┐
 *              └ they don't ──────────────────────────────────────────────┴> standby, queued
 *
 * The standby is what this process has read and written lately (`standby.ts`); what it accepts is
 * written to the store once that works again (`write-back.ts`). Two circuit breakers, one for reads
 * and one for writes, keep a dead store from costing a request anything; `mender.ts` alone tries it
 * then, with growing pauses.
 *
 * What the standby does not know may be in the store: `unknown`, until the store has been away for
 * as long as a binding lives unused. From then on it is `absent`.
 */
import type { Binding, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import type { StoreHealth } from './health.ts';
import { createMender } from './mender.ts';
import type { Mender, MenderOptions } from './mender.ts';
import { performWrite } from './perform.ts';
import type { Outcome, Write } from './rules.ts';
import { createStandby } from './standby.ts';
import type { Standby } from './standby.ts';
import { StoreError } from './store.ts';
import type { Lookup, SessionStore, StoreLimits, StoreMetrics } from './store.ts';
import { countWrite, createStoreCounters, createWriteMethods } from './write-methods.ts';
import type { StoreCounters } from './write-methods.ts';

export interface ResilientStore extends SessionStore {
  health(): StoreHealth;
}

export interface ResilientOptions extends Omit<MenderOptions, 'standby'> {
  readonly kind: SessionStore['kind'];
  readonly isShared: boolean;
  readonly limits: StoreLimits;
  /** How long a binding lives that is not used, in ms. */
  readonly ttlMs: number;
  /** Of passing failures of a write; 0 where the store itself tries again, in order. */
  readonly retryCount: number;
  readonly retryDelayMs: number;
}

/** What an answer may wait for its binding: then it is accepted here, and written when that works. */
const WRITE_BUDGET_MS = 1_000;
/** While all is well: what is in use, and not all that a store can hold. */
const MAX_KNOWN_WHEN_HEALTHY = 200_000;

/** Never rejects. Resolves when the store is open, or after a few seconds without it. */
export async function openResilientStore(options: ResilientOptions): Promise<ResilientStore> {
  const { clock, limits } = options;
  const room = Math.min(limits.maxSessions, MAX_KNOWN_WHEN_HEALTHY);
  const standby = createStandby(clock, limits, room);
  const mender = createMender({
    ...options,
    standby,
    onHealth: (health) => {
      standby.setRoom(health.state === 'healthy' ? room : limits.maxSessions);
      options.onHealth(health);
    },
  });
  await mender.start();
  return new Resilient(options, standby, mender);
}

class Resilient implements ResilientStore {
  readonly kind: SessionStore['kind'];
  readonly claim: SessionStore['claim'];
  readonly upsert: SessionStore['upsert'];
  readonly rebind: SessionStore['rebind'];
  readonly touch: SessionStore['touch'];
  readonly expireWithin: SessionStore['expireWithin'];
  readonly delete: SessionStore['delete'];
  readonly #clock: Clock;
  readonly #options: ResilientOptions;
  readonly #standby: Standby;
  readonly #mender: Mender;
  /** Of what the standby has done; the store counts for itself. */
  readonly #counters = createStoreCounters();
  #closing: Promise<void> | undefined;

  constructor(options: ResilientOptions, standby: Standby, mender: Mender) {
    this.kind = options.kind;
    this.#clock = options.clock;
    this.#options = options;
    this.#standby = standby;
    this.#mender = mender;
    const methods = createWriteMethods(this.#clock, createStoreCounters(), (write) =>
      this.#write(write),
    );
    this.claim = methods.claim;
    this.upsert = methods.upsert;
    this.rebind = methods.rebind;
    this.touch = methods.touch;
    this.expireWithin = methods.expireWithin;
    this.delete = methods.delete;
  }

  /** Not while it fails or may have forgotten something: then the owners themselves are asked. */
  get isShared(): boolean {
    return this.#options.isShared && this.#mender.isTrusted();
  }

  health(): StoreHealth {
    return this.#mender.health();
  }

  lookup(key: SessionKey): Lookup | Promise<Lookup> {
    if (this.#closing) return 'unknown';
    const store = this.#mender.readable();
    if (!store || this.#mender.writeBack.knows(key)) return this.#lookupHere(key);
    const found = store.lookup(key);
    if (found instanceof Promise) return found.then((looked) => this.#afterLookup(key, looked));
    return this.#afterLookup(key, found);
  }

  async cleanup(): Promise<number> {
    this.#assertOpen();
    const forgotten = await this.#standby.cleanup();
    const store = this.#mender.writable();
    if (!store) {
      this.#counters.lastCleanupAt = this.#clock.now();
      return forgotten;
    }
    try {
      return await store.cleanup();
    } catch (error) {
      this.#mender.writeFailed(error);
      return forgotten;
    }
  }

  async *entries(): AsyncGenerator<Binding> {
    this.#assertOpen();
    const store = this.#mender.readable();
    const { writeBack } = this.#mender;
    if (store) {
      for await (const binding of store.entries()) if (!writeBack.knows(binding.key)) yield binding;
    }
    for await (const binding of this.#standby.entries()) {
      if (!store || writeBack.knows(binding.key)) yield binding;
    }
    this.#assertOpen();
  }

  async getMetrics(): Promise<StoreMetrics> {
    this.#assertOpen();
    const store = this.#mender.readable();
    const held = store ? await store.getMetrics() : { ...NOTHING, total: this.#standby.count() };
    return addCounts(held, this.#counters);
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#mender.stop().finally(() => this.#standby.clear()));
  }

  #afterLookup(key: SessionKey, found: Lookup): Lookup {
    if (found === 'unknown') {
      this.#mender.readFailed();
      return this.#lookupHere(key);
    }
    this.#mender.readSucceeded();
    // Accepted while the store was being asked.
    if (this.#mender.writeBack.knows(key)) return this.#lookupHere(key);
    if (found !== 'absent') this.#standby.remember(found);
    // After a failover the store may have forgotten what it had acknowledged.
    else if (!this.#mender.isTrusted()) return this.#standby.find(key) ?? found;
    return found;
  }

  #lookupHere(key: SessionKey): Lookup {
    this.#counters.lookups += 1;
    const found = this.#standby.find(key);
    if (found) return found;
    const isForgotten = this.#mender.writeBack.knows(key) || this.#hasOutlivedAll();
    return isForgotten ? 'absent' : 'unknown';
  }

  /** What was bound before the store went away has been used since, and is known, or has expired. */
  #hasOutlivedAll(): boolean {
    return this.#mender.awayMs() >= this.#options.ttlMs;
  }

  async #write(write: Write): Promise<Outcome> {
    this.#assertOpen();
    const store = this.#mender.writable();
    // What is queued goes on there, so that the writes of one key keep their order.
    if (store && !this.#mender.writeBack.has(write.key)) {
      const outcome = await this.#writeInTime(store, write);
      if (outcome) return outcome;
    }
    return this.#accept(write);
  }

  /** Undefined if it failed, or was not done within its time: what comes of it then is no matter. */
  #writeInTime(store: SessionStore, write: Write): Promise<Outcome | undefined> {
    const { clock } = this.#options;
    return new Promise((resolve) => {
      let isLate = false;
      const cancel = clock.after(WRITE_BUDGET_MS, () => {
        isLate = true;
        this.#mender.writeFailed(new StoreError('passing', TOO_SLOW));
        resolve(undefined);
      });
      this.#writePatiently(store, write, () => isLate).then(
        (outcome) => {
          cancel();
          if (!isLate) this.#written(write, outcome);
          resolve(outcome);
        },
        (error: unknown) => {
          cancel();
          if (!isLate) this.#mender.writeFailed(error);
          resolve(undefined);
        },
      );
    });
  }

  #writePatiently(store: SessionStore, write: Write, isLate: () => boolean): Promise<Outcome> {
    const { clock, random, retryCount, retryDelayMs } = this.#options;
    return retry(() => performWrite(store, write), {
      ...{ clock, random, retryCount, delayMs: retryDelayMs },
      isRetryable: (error) => isPassing(error) && !isLate() && this.#mender.writable() === store,
    });
  }

  #written(write: Write, { after, hasTakenEffect }: Outcome): void {
    if (after) this.#standby.remember(after);
    else if (hasTakenEffect) this.#standby.apply(write);
    // A store that has forgotten things is told of this one, too.
    else if (this.#mender.isTrusted()) this.#standby.forget(write.key);
  }

  async #accept(write: Write): Promise<Outcome> {
    this.#assertOpen();
    const outcome = this.#standby.apply(write);
    countWrite(this.#counters, write, outcome);
    await this.#mender.writeBack.add(write, outcome);
    this.#mender.wake();
    return outcome;
  }

  #assertOpen(): void {
    if (this.#closing) throw new StoreError('closed', 'the session store is closed');
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'passing';
}

const TOO_SLOW = `the session store has not written within ${WRITE_BUDGET_MS} ms`;

const NOTHING: StoreMetrics = {
  ...{ total: 0, expired: 0, sizeBytes: 0, lookups: 0, upserts: 0, deletes: 0, errors: 0 },
  lastCleanupAt: undefined,
};

function addCounts(held: StoreMetrics, more: StoreCounters): StoreMetrics {
  return {
    ...held,
    lookups: held.lookups + more.lookups,
    upserts: held.upserts + more.upserts,
    deletes: held.deletes + more.deletes,
    errors: held.errors + more.errors,
    lastCleanupAt: held.lastCleanupAt ?? more.lastCleanupAt,
  };
}
