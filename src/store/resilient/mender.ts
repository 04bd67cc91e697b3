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
import type { MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import type { BreakerAttempt, CircuitBreaker } from '../../resilience.ts';
import { StoreCondition } from './condition.ts';
import type { StoreHealth } from '../health.ts';
import { inTime } from './in-time.ts';
import {
  createOpenedStore,
  createStoreBreaker,
  FIRST_PAUSE_MS,
  isClosed,
  MAX_PAUSE_MS,
  openUntilMs,
  trialMs,
  works,
} from './opened-store.ts';
import type { Access, OpenedStore } from './opened-store.ts';
import { probeReads, probeWrites } from './probe.ts';
import type { Standby } from './standby.ts';
import { StoreError } from '../store.ts';
import type { SessionStore } from '../store.ts';
import type { WriteBack } from './write-back.ts';

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
  readonly standby: Standby;
  readonly writeBack: WriteBack;
  /** Of a key that is being written, the store itself will say what it holds. */
  readonly isBeingWritten: (key: SessionKey) => boolean;
  readonly clock: Clock;
  readonly random: () => number;
  /** Called when the state, or what fails, has changed. */
  readonly onHealth: (health: StoreHealth) => void;
  /** What a store says of itself that is no change of state. */
  readonly onError: (error: unknown) => void;
}

/** One use of the store by a request. What it says of a store that was given up since is no matter. */
export interface StoreUse {
  readonly store: SessionStore;
  /** Whether a request may still use the store in that way. */
  isAllowed(): boolean;
  succeeded(): void;
  failed(error?: unknown): void;
  /** It failed, which says nothing of others. */
  complained(error: unknown): void;
}

export interface Mender {
  /** The store, unless its reads fail. */
  readonly readable: SessionStore | undefined;
  readonly condition: Pick<
    StoreCondition,
    'isTrusted' | 'mayHaveForgotten' | 'awayMs' | 'health' | 'state'
  >;
  /** Undefined if they fail. */
  beginUse(access: Access): StoreUse | undefined;
  /** The same for a read that was answered at once. */
  noteRead(hasSucceeded: boolean): void;
  /** Something was queued for write-back. */
  noticeQueued(): void;
  /** Resolves after the first attempt to open the store, or after a few seconds. Never rejects. */
  start(): Promise<void>;
  /** Tells the store what it can still be told, and closes it. Never rejects. */
  stop(): Promise<void>;
}

/** How long a start waits for its store. */
const START_WAIT_MS = 5_000;
/** A store that is damaged again within that time is opened anew ever more slowly: each time it may leave a file behind. */
const DAMAGE_MEMORY_MS = 3_600_000;
const MAX_DAMAGE_PAUSE_MS = 300_000;
const BATCH = 200;
/** What a stop spends on a probe under way, on telling the store what it has missed, on its close. */
const LAST_PROBE_MS = 500;
const LAST_DRAIN_MS = 1_000;
const CLOSE_MS = 3_000;

export function createMender(options: MenderOptions): Mender {
  return new StoreMender(options);
}

class StoreMender implements Mender {
  readonly condition: StoreCondition;
  readonly #options: MenderOptions;
  readonly #clock: Clock;
  readonly #opening: CircuitBreaker;
  #opened: OpenedStore | undefined;
  #readable: SessionStore | undefined;
  #hasReadFailures = false;
  #damages = 0;
  #damagedAtMs = -Infinity;
  /** Nothing is tried before. */
  #notBeforeMs = -Infinity;
  #mending: Promise<void> | undefined;
  /** Ends a pause. */
  #alarm = new AbortController();
  #isStopped = false;

  constructor(options: MenderOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#opening = createStoreBreaker(options);
    this.condition = new StoreCondition(options);
  }

  get readable(): SessionStore | undefined {
    return this.#readable;
  }

  beginUse(access: Access): StoreUse | undefined {
    const opened = this.#opened;
    if (!works(opened, access)) return undefined;
    const attempt = opened[access].begin();
    return attempt && this.#createUse(opened, access, attempt);
  }

  noteRead(hasSucceeded: boolean): void {
    if (hasSucceeded && !this.#hasReadFailures) return;
    const use = this.beginUse('reads');
    if (!hasSucceeded) {
      use?.failed();
      return;
    }
    use?.succeeded();
    this.#hasReadFailures = false;
  }

  noticeQueued(): void {
    this.#noticeChange();
  }

  async start(): Promise<void> {
    const opening = this.#open();
    this.#mend(opening);
    const started = Promise.all([opening, this.#options.writeBack.load()]);
    await inTime(this.#clock, START_WAIT_MS, started, 'the start').catch(() => undefined);
    this.#noticeChange();
  }

  async stop(): Promise<void> {
    const { writeBack, onError } = this.#options;
    this.#isStopped = true;
    this.#alarm.abort();
    const mending = this.#mending ?? Promise.resolve();
    // What hangs is left to itself.
    await inTime(this.#clock, LAST_PROBE_MS, mending, 'mending').catch(() => undefined);
    await this.#drainLast();
    const closing = inTime(this.#clock, CLOSE_MS, writeBack.close(), 'closing the journal');
    await Promise.all([this.#opened && this.#close(this.#opened.store), closing.catch(onError)]);
    this.#opened = undefined;
    this.#readable = undefined;
  }

  #createUse(opened: OpenedStore, access: Access, attempt: BreakerAttempt): StoreUse {
    return {
      store: opened.store,
      isAllowed: () => this.#opened === opened && works(opened, access),
      succeeded: () => attempt.succeeded(),
      failed: (error) => {
        if (access === 'reads') this.#hasReadFailures = true;
        if (error !== undefined) this.#notice(error, opened);
        attempt.failed();
        this.#noticeChange();
      },
      complained: (error) => {
        this.#notice(error, opened);
        attempt.abandoned();
        this.#noticeChange();
      },
    };
  }

  /** Takes note of what an error says of the store; its effect on a breaker is the caller's. */
  #notice(error: unknown, opened: OpenedStore | undefined): void {
    if (opened !== this.#opened) return;
    const failure = asStoreError(error);
    this.condition.hasFailed(failure);
    // Nobody here has closed it, so something is wrong that opening it anew may mend.
    const isLost = failure.code === 'damaged' || failure.code === 'closed';
    if (isLost && opened) opened.isDamaged = true;
  }

  /** To be called after anything that may have changed the state. */
  #noticeChange(): void {
    if (this.#isStopped) return;
    const canRead = works(this.#opened, 'reads');
    const canWrite = works(this.#opened, 'writes');
    this.#readable = canRead ? this.#opened?.store : undefined;
    const failing = canRead ? (canWrite ? 'none' : 'writes') : canWrite ? 'reads' : 'all';
    const isChanged = this.condition.update(failing);
    if (isChanged || this.#opened?.isDamaged) this.#alarm.abort();
    if (this.#hasWork()) this.#mend(Promise.resolve());
  }

  #hasWork(): boolean {
    return !this.#isStopped && this.condition.state() !== 'healthy';
  }

  #mend(after: Promise<void>): void {
    this.#mending ??= after
      .then(() => this.#mendAll())
      .finally(() => {
        this.#mending = undefined;
        // Something may have broken after the last look.
        if (this.#hasWork()) this.#mend(Promise.resolve());
      });
  }

  async #mendAll(): Promise<void> {
    while (this.#hasWork()) {
      const pauseMs = this.#pauseMs();
      if (pauseMs > 0) await this.#pause(pauseMs);
      else await this.#mendOnce();
    }
  }

  /** Until something may be tried; 0 while the store works and is to be told what it has missed. */
  #pauseMs(): number {
    const opened = this.#opened;
    const mayTryMs = opened ? trialMs(opened) : openUntilMs(this.#opening);
    return Math.max(0, Math.max(this.#notBeforeMs, mayTryMs) - this.#clock.monotonicMs());
  }

  /** Ends early when something has changed. */
  async #pause(ms: number): Promise<void> {
    this.#alarm = new AbortController();
    await this.#clock.sleep(ms, this.#alarm.signal);
  }

  async #mendOnce(): Promise<void> {
    // Between two batches requests have their turn.
    await this.#clock.sleep(0);
    const opened = this.#opened;
    try {
      if (opened?.isDamaged) await this.#discard(opened);
      else if (opened === undefined) await this.#open();
      else await this.#bringUp(opened);
    } catch (error) {
      // A defect, of a store or here: without a pause it might come again and again.
      this.#options.onError(error);
      this.#notBeforeMs = this.#clock.monotonicMs() + MAX_PAUSE_MS;
    }
    this.#noticeChange();
  }

  async #open(): Promise<void> {
    const attempt = this.#opening.begin();
    if (!attempt) return;
    let opened: OpenedStore | undefined;
    const isInUse = (): boolean => opened !== undefined && opened === this.#opened;
    try {
      const store = await this.#options.open({
        // What it tells before it is open, such as a damaged file set aside, is mended by then.
        onError: (error) => this.#hear(error, opened),
        onDisrupted: () => isInUse() && this.#distrust(),
      });
      attempt.succeeded();
      opened = this.#take(store);
    } catch (error) {
      this.#notice(error, undefined);
      attempt.failed();
    }
    this.#noticeChange();
  }

  #take(store: SessionStore): OpenedStore | undefined {
    if (this.#isStopped) {
      void this.#close(store);
      return undefined;
    }
    return (this.#opened = createOpenedStore(store, this.#options));
  }

  #hear(error: StoreError, opened: OpenedStore | undefined): void {
    if (this.#isStopped) return;
    this.#options.onError(error);
    // What one says that is being given up, such as where its file was set aside, is no news of the next.
    if (!opened || opened !== this.#opened) return;
    this.#notice(error, opened);
    this.#noticeChange();
  }

  #distrust(): void {
    this.condition.hasForgotten();
    this.#noticeChange();
  }

  /** Closes what is damaged; opening it again sets it aside. */
  async #discard({ store }: OpenedStore): Promise<void> {
    const now = this.#clock.monotonicMs();
    this.#damages = now - this.#damagedAtMs < DAMAGE_MEMORY_MS ? this.#damages + 1 : 0;
    this.#damagedAtMs = now;
    this.#opened = undefined;
    this.#distrust();
    await this.#close(store);
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#damages, MAX_DAMAGE_PAUSE_MS);
    if (this.#damages > 0) this.#notBeforeMs = this.#clock.monotonicMs() + pauseMs;
  }

  async #bringUp(opened: OpenedStore): Promise<void> {
    // What can't be read is not written to: the reads are tried first.
    if (!isClosed(opened.reads)) await this.#tryReads(opened);
    else if (!isClosed(opened.writes)) await this.#tryWrites(opened);
    else if (this.condition.needsRefill()) await this.#refill(opened);
    else await this.#drain(opened);
  }

  async #tryReads({ store, reads }: OpenedStore): Promise<void> {
    const attempt = reads.begin();
    if (!attempt) return;
    const canRead = await probeReads(store, this.#clock);
    if (canRead) attempt.succeeded();
    else attempt.failed();
  }

  async #tryWrites(opened: OpenedStore): Promise<void> {
    const attempt = opened.writes.begin();
    if (!attempt) return;
    const { writeBack, self } = this.#options;
    try {
      const isFull = this.condition.lastError?.code === 'full';
      if (isFull) await this.#makeRoom(opened.store);
      const told = isFull ? 0 : await writeBack.drain(opened.store, 1);
      if (told === 0) await probeWrites(opened.store, self, this.#clock);
      attempt.succeeded();
    } catch (error) {
      this.#notice(error, opened);
      attempt.failed();
    }
  }

  /** What has expired may be all that a full disk can spare. */
  async #makeRoom(store: SessionStore): Promise<void> {
    const cleanup = store.cleanup();
    await inTime(this.#clock, MAX_PAUSE_MS, cleanup, 'cleaning up').catch(() => undefined);
  }

  /** A shared store is told by each Machine what is its own; a file has nobody else. */
  async #refill(opened: OpenedStore): Promise<void> {
    const { standby, writeBack, self, isShared, isBeingWritten } = this.#options;
    const { losses } = this.condition;
    for await (const binding of standby.entries()) {
      const isOthers = isShared && binding.machine !== self;
      if (isOthers || isBeingWritten(binding.key)) continue;
      writeBack.restore(binding);
      while (writeBack.depth >= BATCH) if (!(await this.#drain(opened))) return;
    }
    this.condition.wasRefilled(losses);
  }

  /** Whether the store takes what it is told. */
  async #drain(opened: OpenedStore): Promise<boolean> {
    if (this.#isStopped || this.#opened !== opened || !works(opened, 'writes')) return false;
    const attempt = opened.writes.begin();
    const { writeBack } = this.#options;
    try {
      const told = await writeBack.drain(opened.store, BATCH);
      // What is left it has refused.
      if (told === 0 && writeBack.depth > 0) {
        this.#notBeforeMs = this.#clock.monotonicMs() + FIRST_PAUSE_MS;
      }
      return true;
    } catch (error) {
      this.#notice(error, opened);
      attempt?.failed();
      return false;
    }
  }

  async #drainLast(): Promise<void> {
    const store = this.#opened?.store;
    const { writeBack } = this.#options;
    const untilMs = this.#clock.monotonicMs() + LAST_DRAIN_MS;
    let failure: unknown;
    try {
      while (store && writeBack.depth > 0 && this.#clock.monotonicMs() < untilMs) {
        const leftMs = untilMs - this.#clock.monotonicMs();
        await inTime(this.#clock, leftMs, writeBack.drain(store, BATCH), 'the end');
      }
    } catch (error) {
      failure = error;
    }
    const { depth, isDurable } = writeBack;
    if (depth === 0) return;
    const fate = isDurable ? 'is told after the next start' : 'is lost';
    const text = `the session store was not told of ${depth} of its bindings: that ${fate}`;
    this.#options.onError(new StoreError('passing', text, { cause: failure }));
  }

  async #close(store: SessionStore): Promise<void> {
    try {
      await inTime(this.#clock, CLOSE_MS, store.close(), 'closing the session store');
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

function asStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  return new StoreError('fatal', 'the session store failed', { cause: error });
}
