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
import type { Attempt, CircuitBreaker } from '../resilience.ts';
import type { StoreHealth } from './health.ts';
import { inTime } from './in-time.ts';
import { probeReads, probeWrites } from './probe.ts';
import type { Standby } from './standby.ts';
import { StoreError } from './store.ts';
import type { SessionStore } from './store.ts';
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
  /** Undefined if they fail. */
  beginUse(of: 'reads' | 'writes'): StoreUse | undefined;
  /** The same for a read that was answered at once. */
  noteRead(hasSucceeded: boolean): void;
  /** Whether the store has all that was accepted here or acknowledged by it, as far as can be told. */
  isTrusted(): boolean;
  /** Whether it may lack what it had acknowledged. */
  mayHaveForgotten(): boolean;
  health(): StoreHealth;
  /** How long nothing has been read from the store, in ms; 0 while reads work. */
  awayMs(): number;
  /** Something was queued for write-back. */
  noticeQueued(): void;
  /** Resolves after the first attempt to open the store, or after a few seconds. Never rejects. */
  start(): Promise<void>;
  /** Tells the store what it can still be told, and closes it. Never rejects. */
  stop(): Promise<void>;
}

/** How long a start waits for its store. */
const START_WAIT_MS = 5_000;
/** The first pause before a failed store is tried again; it doubles up to the last. */
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 10_000;
/** One read may be late for a reason of its own. A write has had its retries. */
const READ_FAILURES = 3;
/** A store that is damaged again within that time is opened anew ever more slowly: each time it may leave a file behind. */
const DAMAGE_MEMORY_MS = 3_600_000;
const MAX_DAMAGE_PAUSE_MS = 300_000;
/**
 * After a shared store was away, or has forgotten bindings, each Machine tells it its own: the last
 * of them after its longest pause.
 */
const SETTLE_MS = MAX_PAUSE_MS + 5_000;
const SETTLED = -Infinity;
const BATCH = 200;
/** What a stop spends on a probe under way, on telling the store what it has missed, on its close. */
const LAST_PROBE_MS = 500;
const LAST_DRAIN_MS = 1_000;
const CLOSE_MS = 3_000;

const NOT_OPEN = new StoreError('passing', 'the session store is not open yet');
const UNREADABLE = new StoreError('passing', 'the session store does not answer');

export function createMender(options: MenderOptions): Mender {
  return new StoreMender(options);
}

/** A store that was opened, for as long as it is in use. */
interface Opened {
  readonly store: SessionStore;
  readonly reads: CircuitBreaker;
  readonly writes: CircuitBreaker;
  isDamaged: boolean;
}

class StoreMender implements Mender {
  readonly #options: MenderOptions;
  readonly #clock: Clock;
  readonly #opening: CircuitBreaker;
  #opened: Opened | undefined;
  #readable: SessionStore | undefined;
  /** How often the store may have forgotten what this Machine knows, and of which of them it was told. */
  #losses = 0;
  #lossesMended = 0;
  /** Of a shared store: until when other Machines may be telling it what it lacks. */
  #settledAtMs = SETTLED;
  #hasReadFailures = false;
  #damages = 0;
  #damagedAtMs = -Infinity;
  /** Nothing is tried before. */
  #notBeforeMs = -Infinity;
  #lastError: StoreError | undefined = NOT_OPEN;
  #awaySinceMs: number | undefined;
  #unhealthySinceMs: number | undefined;
  #reported = 'healthy none';
  #mending: Promise<void> | undefined;
  #alarm = new AbortController();
  #isStopped = false;

  constructor(options: MenderOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#opening = this.#createBreaker(1);
    this.#awaySinceMs = options.clock.monotonicMs();
  }

  get readable(): SessionStore | undefined {
    return this.#readable;
  }

  beginUse(of: 'reads' | 'writes'): StoreUse | undefined {
    const opened = this.#opened;
    if (!opened || !works(opened, of)) return undefined;
    const attempt = opened[of].begin();
    return attempt && this.#createUse(opened, of, attempt);
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

  isTrusted(): boolean {
    return (
      this.#failing() === 'none' && this.#options.writeBack.depth === 0 && !this.mayHaveForgotten()
    );
  }

  mayHaveForgotten(): boolean {
    if (this.#needsRefill()) return true;
    if (this.#settledAtMs === SETTLED) return false;
    if (this.#clock.monotonicMs() >= this.#settledAtMs) this.#settledAtMs = SETTLED;
    return this.#settledAtMs !== SETTLED;
  }

  awayMs(): number {
    return this.#awaySinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#awaySinceMs;
  }

  health(): StoreHealth {
    const { writeBack } = this.#options;
    const failing = this.#failing();
    const since = this.#unhealthySinceMs;
    const lastError = this.#lastError ?? UNREADABLE;
    return {
      state: this.#state(),
      failing,
      code: failing === 'none' ? undefined : lastError.code,
      reason: failing === 'none' ? undefined : lastError.message,
      forMs: since === undefined ? 0 : this.#clock.monotonicMs() - since,
      writeBack: {
        depth: writeBack.depth,
        ageMs: writeBack.ageMs(),
        isDurable: writeBack.isDurable,
      },
    };
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
    this.#isStopped = true;
    this.#alarm.abort();
    const mending = this.#mending ?? Promise.resolve();
    // What hangs is left to itself.
    await inTime(this.#clock, LAST_PROBE_MS, mending, 'mending').catch(() => undefined);
    await this.#drainLast();
    await Promise.all([
      this.#opened && this.#close(this.#opened.store),
      inTime(this.#clock, CLOSE_MS, this.#options.writeBack.close(), 'closing the journal').catch(
        this.#options.onError,
      ),
    ]);
    this.#opened = undefined;
    this.#readable = undefined;
  }

  #createBreaker(failureThreshold: number): CircuitBreaker {
    const { clock, random } = this.#options;
    const pauses = { openMs: FIRST_PAUSE_MS, maxOpenMs: MAX_PAUSE_MS };
    return createCircuitBreaker({ failureThreshold, ...pauses, clock, random });
  }

  #createUse(opened: Opened, of: 'reads' | 'writes', attempt: Attempt): StoreUse {
    return {
      store: opened.store,
      isAllowed: () => this.#opened === opened && works(opened, of),
      succeeded: () => attempt.succeeded(),
      failed: (error) => {
        if (of === 'reads') this.#hasReadFailures = true;
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

  #failing(): StoreHealth['failing'] {
    const opened = this.#opened;
    const canRead = opened !== undefined && works(opened, 'reads');
    const canWrite = opened !== undefined && works(opened, 'writes');
    if (canRead && canWrite) return 'none';
    if (!canRead && !canWrite) return 'all';
    return canRead ? 'writes' : 'reads';
  }

  #state(): StoreHealth['state'] {
    if (this.#failing() !== 'none') return 'degraded';
    const isBehind = this.#options.writeBack.depth > 0 || this.#needsRefill();
    return isBehind ? 'recovering' : 'healthy';
  }

  /** Takes note of what an error says of the store; its effect on a breaker is the caller's. */
  #notice(error: unknown, opened: Opened | undefined): void {
    if (opened !== this.#opened) return;
    const failure = asStoreError(error);
    this.#lastError = failure;
    // Nobody here has closed it, so something is wrong that opening it anew may mend.
    const isLost = failure.code === 'damaged' || failure.code === 'closed';
    if (isLost && opened) opened.isDamaged = true;
  }

  /** To be called after anything that may have changed the state. */
  #noticeChange(): void {
    if (this.#isStopped) return;
    const opened = this.#opened;
    const now = this.#clock.monotonicMs();
    this.#readable = opened && works(opened, 'reads') ? opened.store : undefined;
    this.#awaySinceMs = this.#readable ? undefined : (this.#awaySinceMs ?? now);
    const state = this.#state();
    this.#unhealthySinceMs = state === 'healthy' ? undefined : (this.#unhealthySinceMs ?? now);
    const change = `${state} ${this.#failing()}`;
    const isChanged = change !== this.#reported;
    if (this.#options.isShared && (isChanged || state !== 'healthy')) {
      this.#settledAtMs = now + SETTLE_MS;
    }
    if (isChanged || opened?.isDamaged) this.#alarm.abort();
    if (this.#hasWork()) this.#mend(Promise.resolve());
    if (!isChanged) return;
    if (state !== 'degraded') this.#lastError = undefined;
    this.#reported = change;
    this.#options.onHealth(this.health());
  }

  #hasWork(): boolean {
    return !this.#isStopped && this.#state() !== 'healthy';
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
      if (opened?.isDamaged === true) await this.#discard(opened);
      else if (opened === undefined) await this.#open();
      else await this.#bringUp(opened);
    } catch (error) {
      // A defect, of a store or here: without a pause it might come again and again.
      this.#options.onError(error);
      this.#notBeforeMs = this.#clock.monotonicMs() + MAX_PAUSE_MS;
    }
    this.#noticeChange();
  }

  /** Until something may be tried; 0 while the store works and is to be told what it has missed. */
  #pauseMs(): number {
    const opened = this.#opened;
    const now = this.#clock.monotonicMs();
    const untilMs = Math.max(this.#notBeforeMs, opened ? trialMs(opened) : untilOf(this.#opening));
    return Math.max(0, untilMs - now);
  }

  async #open(): Promise<void> {
    const attempt = this.#opening.begin();
    if (!attempt) return;
    let opened: Opened | undefined;
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

  #take(store: SessionStore): Opened | undefined {
    if (this.#isStopped) {
      void this.#close(store);
      return undefined;
    }
    const reads = this.#createBreaker(READ_FAILURES);
    return (this.#opened = { store, reads, writes: this.#createBreaker(1), isDamaged: false });
  }

  #hear(error: StoreError, opened: Opened | undefined): void {
    if (this.#isStopped || (opened && opened !== this.#opened)) return;
    this.#options.onError(error);
    if (!opened) return;
    this.#notice(error, opened);
    this.#noticeChange();
  }

  #needsRefill(): boolean {
    return this.#lossesMended < this.#losses;
  }

  #distrust(): void {
    this.#losses += 1;
    this.#noticeChange();
  }

  /** Closes what is damaged; opening it again sets it aside. */
  async #discard({ store }: Opened): Promise<void> {
    const now = this.#clock.monotonicMs();
    this.#damages = now - this.#damagedAtMs < DAMAGE_MEMORY_MS ? this.#damages + 1 : 0;
    this.#damagedAtMs = now;
    this.#opened = undefined;
    this.#distrust();
    await this.#close(store);
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#damages, MAX_DAMAGE_PAUSE_MS);
    if (this.#damages > 0) this.#notBeforeMs = this.#clock.monotonicMs() + pauseMs;
  }

  async #bringUp(opened: Opened): Promise<void> {
    // What can't be read is not written to: the reads are tried first.
    if (!isClosed(opened.reads)) await this.#tryReads(opened);
    else if (!isClosed(opened.writes)) await this.#tryWrites(opened);
    else if (this.#needsRefill()) await this.#refill(opened);
    else await this.#drain(opened);
  }

  async #tryReads(opened: Opened): Promise<void> {
    const attempt = opened.reads.begin();
    if (!attempt) return;
    const canRead = await probeReads(opened.store, this.#clock);
    if (canRead) attempt.succeeded();
    else attempt.failed();
  }

  async #tryWrites(opened: Opened): Promise<void> {
    const attempt = opened.writes.begin();
    if (!attempt) return;
    const { writeBack, self } = this.#options;
    try {
      const isFull = this.#lastError?.code === 'full';
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
  async #refill(opened: Opened): Promise<void> {
    const { standby, writeBack, self, isShared, isBeingWritten } = this.#options;
    const losses = this.#losses;
    for await (const binding of standby.entries()) {
      const isOthers = isShared && binding.machine !== self;
      if (isOthers || isBeingWritten(binding.key)) continue;
      writeBack.restore(binding);
      while (writeBack.depth >= BATCH) if (!(await this.#drain(opened))) return;
    }
    this.#lossesMended = losses;
  }

  /** Whether the store takes what it is told. */
  async #drain(opened: Opened): Promise<boolean> {
    if (this.#isStopped || this.#opened !== opened) return false;
    const attempt = works(opened, 'writes') ? opened.writes.begin() : undefined;
    if (!attempt) return false;
    try {
      const told = await this.#options.writeBack.drain(opened.store, BATCH);
      // What is left it has refused.
      if (told === 0 && this.#options.writeBack.depth > 0)
        this.#notBeforeMs = this.#clock.monotonicMs() + FIRST_PAUSE_MS;
      return true;
    } catch (error) {
      this.#notice(error, opened);
      attempt.failed();
      return false;
    }
  }

  async #drainLast(): Promise<void> {
    const store = this.#opened?.store;
    const { writeBack } = this.#options;
    const untilMs = this.#clock.monotonicMs() + LAST_DRAIN_MS;
    try {
      while (store && writeBack.depth > 0 && this.#clock.monotonicMs() < untilMs) {
        const leftMs = untilMs - this.#clock.monotonicMs();
        await inTime(this.#clock, leftMs, writeBack.drain(store, BATCH), 'the end');
      }
    } catch (error) {
      this.#lastError = asStoreError(error);
    }
    if (writeBack.depth === 0) return;
    const left = `${writeBack.depth} bindings that the session store has not been told of`;
    const fate = writeBack.isDurable ? 'are told after the next start' : 'are lost';
    this.#options.onError(new StoreError('passing', `${left} ${fate}`, { cause: this.#lastError }));
  }

  async #close(store: SessionStore): Promise<void> {
    try {
      await inTime(this.#clock, CLOSE_MS, store.close(), 'closing the session store');
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

/** Whether requests may use it in that way. */
function works(opened: Opened, of: 'reads' | 'writes'): boolean {
  return !opened.isDamaged && isClosed(opened[of]);
}

function isClosed(breaker: CircuitBreaker): boolean {
  return breaker.state().kind === 'closed';
}

function untilOf(breaker: CircuitBreaker): number {
  const state = breaker.state();
  return state.kind === 'open' ? state.untilMs : -Infinity;
}

/** Reads come first. */
function trialMs({ reads, writes, isDamaged }: Opened): number {
  if (isDamaged) return -Infinity;
  return untilOf(isClosed(reads) ? writes : reads);
}

function asStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  return new StoreError('fatal', 'the session store failed', { cause: error });
}
