/**
 * Keeps a store in use, or mends it: opens it, notices when it fails, tries it with growing pauses,
 * and tells it what it has missed.
 *
 *     none ─ opened ─> open ─ damaged ─> closed, opened anew ─> open, filled from the standby
 *      └ fails: tried again                └ fails: none
 *
 * Of an open store reads and writes each have a circuit breaker. While one is open no request tries
 * the store: this does, one probe at a time. It runs only while there is something to mend.
 */
import type { MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { createCircuitBreaker } from '../resilience.ts';
import type { CircuitBreaker } from '../resilience.ts';
import type { StoreHealth, WriteBackResult } from './health.ts';
import type { Standby } from './standby.ts';
import { StoreError } from './store.ts';
import type { SessionStore } from './store.ts';
import { createWriteBack } from './write-back.ts';
import type { Conflict, WriteBack } from './write-back.ts';

/** What an opened store tells of itself. */
export interface StoreHooks {
  /** What no caller hears of. */
  readonly onError: (error: StoreError) => void;
  /** A connection broke: what it had acknowledged may be lost. */
  readonly onDisrupted: () => void;
}

export interface MenderOptions {
  readonly self: MachineId;
  readonly isShared: boolean;
  /** Rejects with a {@link StoreError}. Called again until it succeeds, and after damage. */
  readonly open: (hooks: StoreHooks) => Promise<SessionStore>;
  /** Opens a store on this Machine, for what a shared one has not been told yet. */
  readonly openJournal?: () => Promise<SessionStore>;
  readonly standby: Standby;
  readonly clock: Clock;
  readonly random: () => number;
  /** Called when the state, or what fails, has changed. */
  readonly onHealth: (health: StoreHealth) => void;
  /** What a store says of itself that is no change of state, and what a journal fails at. */
  readonly onError: (error: unknown) => void;
  readonly onWrittenBack: (result: WriteBackResult, conflict?: Conflict) => void;
}

export interface Mender {
  readonly writeBack: WriteBack;
  /** The store, unless its reads fail. */
  readable(): SessionStore | undefined;
  /** The store, unless its writes fail. */
  writable(): SessionStore | undefined;
  /** Whether the store has all that was accepted here or acknowledged by it, as far as can be told. */
  isTrusted(): boolean;
  health(): StoreHealth;
  /** How long nothing has been read from the store, in ms; 0 while reads work. */
  awayMs(): number;
  readSucceeded(): void;
  readFailed(): void;
  writeFailed(error: unknown): void;
  /** Something was queued for write-back. */
  wake(): void;
  /** Resolves after the first attempt to open the store, or after a few seconds. Never rejects. */
  start(): Promise<void>;
  /** Tells the store what it can still be told, and closes it. Never rejects. */
  stop(): Promise<void>;
}

/** How long a start waits for its store. */
const START_WAIT_MS = 5_000;
/** The first pause before a failed store is tried again; it doubles up to the last. */
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 30_000;
/** One read may be late for a reason of its own. A write has had its retries. */
const READ_FAILURES = 3;
/** A store that is damaged again within that time is opened anew ever more slowly. */
const DAMAGE_MEMORY_MS = 600_000;
/** After a shared store may have forgotten bindings, each Machine tells it its own; that takes a while. */
const SETTLE_MS = 10_000;
const MAX_QUEUED_KEYS = 100_000;
/** So that what is being restored leaves room for what is new. */
const MAX_REFILLED_AT_ONCE = 10_000;
const BATCH = 200;
/** What a stop spends on telling the store what it has missed. */
const LAST_DRAIN_MS = 1_000;
/** Nobody's: the hash of no id is all zeros. */
const PROBE_KEY = '0'.repeat(32) as SessionKey;

export function createMender(options: MenderOptions): Mender {
  return new StoreMender(options);
}

class StoreMender implements Mender {
  readonly writeBack: WriteBack;
  readonly #options: MenderOptions;
  readonly #clock: Clock;
  readonly #opening: CircuitBreaker;
  #reads: CircuitBreaker;
  #writes: CircuitBreaker;
  #store: SessionStore | undefined;
  #isDamaged = false;
  /** The store may lack what this Machine knows. */
  #needsRefill = false;
  #distrustedUntilMs = -Infinity;
  #damages = 0;
  #damagedAtMs = -Infinity;
  #journal: SessionStore | undefined;
  #lastError: StoreError | undefined;
  #awaySinceMs: number | undefined;
  #unhealthySinceMs: number | undefined;
  #reported = 'healthy none';
  #mending: Promise<void> | undefined;
  readonly #stopped = new AbortController();

  constructor(options: MenderOptions) {
    const { standby, clock, onError, onWrittenBack } = options;
    this.#options = options;
    this.#clock = clock;
    this.#opening = this.#createBreaker(1);
    this.#reads = this.#createBreaker(READ_FAILURES);
    this.#writes = this.#createBreaker(1);
    this.#awaySinceMs = clock.monotonicMs();
    this.writeBack = createWriteBack({
      standby,
      clock,
      journal: () => this.#journal,
      maxKeys: MAX_QUEUED_KEYS,
      onWritten: onWrittenBack,
      onJournalError: onError,
    });
  }

  readable(): SessionStore | undefined {
    return this.#reads.state().kind === 'closed' ? this.#store : undefined;
  }

  writable(): SessionStore | undefined {
    return this.#writes.state().kind === 'closed' ? this.#store : undefined;
  }

  isTrusted(): boolean {
    return (
      this.readable() !== undefined &&
      this.writable() !== undefined &&
      !this.#needsRefill &&
      this.writeBack.depth === 0 &&
      this.#clock.monotonicMs() >= this.#distrustedUntilMs
    );
  }

  awayMs(): number {
    return this.#awaySinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#awaySinceMs;
  }

  health(): StoreHealth {
    const failing = this.#failing();
    const { depth } = this.writeBack;
    const isBehind = depth > 0 || this.#needsRefill;
    const since = this.#unhealthySinceMs;
    return {
      state: failing !== 'none' ? 'degraded' : isBehind ? 'recovering' : 'healthy',
      failing,
      code: failing === 'none' ? undefined : this.#lastError?.code,
      reason: failing === 'none' ? undefined : this.#lastError?.message,
      forMs: since === undefined ? 0 : this.#clock.monotonicMs() - since,
      writeBack: { depth, ageMs: this.writeBack.ageMs(), isDurable: this.#journal !== undefined },
    };
  }

  readSucceeded(): void {
    const state = this.#reads.state();
    if (state.kind === 'closed' && state.consecutiveFailures === 0) return;
    this.#reads.begin()?.succeeded();
  }

  readFailed(): void {
    this.#reads.begin()?.failed();
    this.#noticeChange();
  }

  writeFailed(error: unknown): void {
    this.#notice(error);
    this.#writes.begin()?.failed();
    this.#noticeChange();
  }

  wake(): void {
    if (this.#stopped.signal.aborted) return;
    this.#mending ??= this.#mend().then(() => this.#rest());
  }

  async start(): Promise<void> {
    await this.#loadJournal();
    const opened = this.#open();
    this.#mending = opened.then(() => this.#mend()).then(() => this.#rest());
    const inTime = new AbortController();
    await Promise.race([opened, this.#clock.sleep(START_WAIT_MS, inTime.signal)]);
    inTime.abort();
    this.#noticeChange();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#mending;
    await this.#drainLast();
    for (const store of [this.#store, this.#journal]) {
      await store?.close().catch((error: unknown) => this.#options.onError(error));
    }
    this.#store = undefined;
  }

  #createBreaker(failureThreshold: number): CircuitBreaker {
    const { clock, random } = this.#options;
    const pauses = { openMs: FIRST_PAUSE_MS, maxOpenMs: MAX_PAUSE_MS };
    return createCircuitBreaker({ failureThreshold, ...pauses, clock, random });
  }

  #failing(): StoreHealth['failing'] {
    const canRead = this.readable() !== undefined;
    const canWrite = this.writable() !== undefined;
    if (canRead && canWrite) return 'none';
    if (!canRead && !canWrite) return 'all';
    return canRead ? 'writes' : 'reads';
  }

  /** Takes note of what an error says of the store; its effect on a breaker is the caller's. */
  #notice(error: unknown): void {
    const failure =
      error instanceof StoreError
        ? error
        : new StoreError('fatal', 'the session store failed', { cause: error });
    if (failure.code === 'closed') return;
    this.#lastError = failure;
    if (failure.code === 'damaged') this.#isDamaged = true;
  }

  /** After anything that may have changed the state. */
  #noticeChange(): void {
    if (this.readable()) this.#awaySinceMs = undefined;
    else this.#awaySinceMs ??= this.#clock.monotonicMs();
    const { state, failing } = this.health();
    if (state === 'healthy') this.#unhealthySinceMs = undefined;
    else this.#unhealthySinceMs ??= this.#clock.monotonicMs();
    if (state !== 'healthy' || this.#isDamaged) this.wake();
    if (this.#reported === `${state} ${failing}`) return;
    this.#reported = `${state} ${failing}`;
    this.#options.onHealth(this.health());
  }

  #hasWork(): boolean {
    if (this.#stopped.signal.aborted) return false;
    return this.#isDamaged || this.health().state !== 'healthy';
  }

  async #mend(): Promise<void> {
    while (this.#hasWork()) {
      await this.#clock.sleep(this.#pauseMs(), this.#stopped.signal);
      if (this.#stopped.signal.aborted) return;
      if (this.#isDamaged) await this.#discard();
      if (this.#store === undefined) await this.#open();
      if (this.#store !== undefined) await this.#bringUp(this.#store);
      this.#noticeChange();
    }
  }

  /** Something may have broken after the last look. */
  #rest(): void {
    this.#mending = undefined;
    if (this.#hasWork()) this.wake();
  }

  /** Until something may be tried; 0 while the store works and is to be told what it has missed. */
  #pauseMs(): number {
    if (this.#isDamaged) return 0;
    // What can't be read is not written to: the reads are tried first.
    const inOrder = this.#store === undefined ? [this.#opening] : [this.#reads, this.#writes];
    for (const breaker of inOrder) {
      const state = breaker.state();
      if (state.kind === 'open') return Math.max(0, state.untilMs - this.#clock.monotonicMs());
    }
    return 0;
  }

  async #open(): Promise<void> {
    const attempt = this.#opening.begin();
    if (!attempt) return;
    let isCurrent = true;
    const hooks: StoreHooks = {
      onError: (error) => isCurrent && this.#hear(error),
      onDisrupted: () => isCurrent && this.#distrust(),
    };
    try {
      this.#store = await this.#options.open(hooks);
      attempt.succeeded();
      this.#reads = this.#createBreaker(READ_FAILURES);
      this.#writes = this.#createBreaker(1);
    } catch (error) {
      isCurrent = false;
      this.#notice(error);
      // What could not be opened needs no closing.
      this.#isDamaged = false;
      attempt.failed();
    }
    this.#noticeChange();
  }

  #hear(error: StoreError): void {
    this.#options.onError(error);
    this.#notice(error);
    this.#noticeChange();
  }

  #distrust(): void {
    this.#needsRefill = true;
    this.#noticeChange();
  }

  /** Closes what is damaged; opening it again sets it aside. */
  async #discard(): Promise<void> {
    const now = this.#clock.monotonicMs();
    this.#damages = now - this.#damagedAtMs < DAMAGE_MEMORY_MS ? this.#damages + 1 : 0;
    this.#damagedAtMs = now;
    const store = this.#store;
    this.#store = undefined;
    this.#isDamaged = false;
    this.#needsRefill = true;
    this.#noticeChange();
    await store?.close().catch((error: unknown) => this.#options.onError(error));
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#damages, MAX_PAUSE_MS);
    if (this.#damages > 0) await this.#clock.sleep(pauseMs, this.#stopped.signal);
  }

  async #bringUp(store: SessionStore): Promise<void> {
    await this.#probeReads(store);
    if (this.readable() === undefined) return;
    if (this.#needsRefill) await this.#refill(store);
    await this.#drain(store);
  }

  async #probeReads(store: SessionStore): Promise<void> {
    if (this.#reads.state().kind === 'closed') return;
    const attempt = this.#reads.begin();
    if (!attempt) return;
    const found = await store.lookup(PROBE_KEY);
    if (found === 'unknown') attempt.failed();
    else attempt.succeeded();
  }

  /** A shared store is told by each Machine what is its own; a file has nobody else. */
  async #refill(store: SessionStore): Promise<void> {
    const { standby, self, isShared } = this.#options;
    this.#needsRefill = false;
    if (isShared) this.#distrustedUntilMs = this.#clock.monotonicMs() + SETTLE_MS;
    for await (const binding of standby.entries()) {
      if (isShared && binding.machine !== self) continue;
      this.writeBack.restore(binding);
      if (this.writeBack.depth >= MAX_REFILLED_AT_ONCE) await this.#drain(store);
      if (this.writable() !== store) {
        this.#needsRefill = true;
        return;
      }
    }
  }

  async #drain(store: SessionStore): Promise<void> {
    if (this.#writes.state().kind === 'closed') {
      await this.writeBack.drain(store, BATCH).catch((error: unknown) => this.writeFailed(error));
      return;
    }
    const attempt = this.#writes.begin();
    if (!attempt) return;
    try {
      // With nothing queued this asks for the lock, or the connection, all the same.
      if ((await this.writeBack.drain(store, 1)) === 0) await store.touch(PROBE_KEY, 1);
      attempt.succeeded();
    } catch (error) {
      this.#notice(error);
      attempt.failed();
    }
  }

  async #drainLast(): Promise<void> {
    const store = this.#store;
    const deadlineMs = this.#clock.monotonicMs() + LAST_DRAIN_MS;
    try {
      while (store && this.writeBack.depth > 0 && this.#clock.monotonicMs() < deadlineMs) {
        await this.writeBack.drain(store, BATCH);
      }
    } catch (error) {
      this.#options.onError(error);
    }
  }

  async #loadJournal(): Promise<void> {
    const { openJournal, standby, self, onError } = this.#options;
    if (!openJournal) return;
    try {
      const journal = await openJournal();
      this.#journal = journal;
      await journal.cleanup();
      for await (const binding of journal.entries()) {
        // A file that was the store itself before has copies of other Machines' bindings too.
        if (binding.machine !== self || binding.origin === 'copied') continue;
        standby.remember(binding);
        this.writeBack.restore(binding);
      }
    } catch (error) {
      onError(error);
    }
  }
}
