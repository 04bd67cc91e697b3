/**
 * Opens a store, notices when it fails, and brings it back with growing pauses.
 *
 *     none ─ opened ─> open ─ damaged ─> closed, reopened ─> open, refilled from the local copy
 *      └ fails: tried again                └ fails: none
 *
 * Reads and writes of an open store each have a circuit breaker. While one is open no request uses
 * the store: `recovery.ts` sends one probe at a time. The supervisor runs only while the store is
 * not healthy.
 */
import type { Clock } from '../../clock.ts';
import type { BreakerAttempt, CircuitBreaker } from '../../resilience.ts';
import {
  StoreStatus,
  asStoreError,
  createDamagePauses,
  createStoreInUse,
  createStoreBreaker,
  MAX_PAUSE_MS,
  openUntilMs,
  trialMs,
  works,
  type Access,
  type StoreInUse,
  type StoreAttempt,
  type StoreHooks,
} from './status.ts';
import type { StoreHealth, SessionStore, StoreError } from '../store.ts';
import { withinTime } from '../time-limit.ts';
import { Recovery, type RecoveryOptions } from './recovery.ts';

export interface StoreSupervisorOptions extends RecoveryOptions {
  /** Rejects with a {@link StoreError}. Called again until it succeeds, and after damage. */
  readonly open: (hooks: StoreHooks) => Promise<SessionStore>;
  readonly random: () => number;
  /** Called when the state, or what fails, has changed. */
  readonly onHealth: (health: StoreHealth) => void;
  /** Errors of a store that change no state. */
  readonly onError: (error: unknown) => void;
}

/** How long a start waits for its store. */
const START_WAIT_MS = 5_000;
/** How long a stop waits for a probe in flight, and for the close of the store. */
const LAST_PROBE_MS = 500;
const CLOSE_MS = 3_000;

export class StoreSupervisor {
  readonly status: StoreStatus;
  readonly #options: StoreSupervisorOptions;
  readonly #clock: Clock;
  readonly #opening: CircuitBreaker;
  readonly #recovery: Recovery;
  #opened: StoreInUse | undefined;
  #readable: SessionStore | undefined;
  #hasReadFailures = false;
  readonly #nextDamagePauseMs: () => number;
  /** Nothing is tried before this time. */
  #notBeforeMs = -Infinity;
  #recovering: Promise<void> | undefined;
  /** Ends a pause. */
  #wakeUp = new AbortController();
  #isStopped = false;

  constructor(options: StoreSupervisorOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#opening = createStoreBreaker(options);
    this.#nextDamagePauseMs = createDamagePauses(options.clock);
    this.status = new StoreStatus(options);
    this.#recovery = new Recovery(options, {
      status: this.status,
      isCurrent: (opened) => !this.#isStopped && this.#opened === opened,
      noteError: (error, opened) => this.#noteError(error, opened),
      pauseFor: (ms) => this.#pauseFor(ms),
    });
  }

  /** The store, unless its reads fail. */
  get readable(): SessionStore | undefined {
    return this.#readable;
  }

  /** Undefined if reads fail. */
  begin(access: Access): StoreAttempt | undefined {
    const opened = this.#opened;
    if (!works(opened, access)) return undefined;
    const attempt = opened[access].begin();
    return attempt && this.#createAttempt(opened, access, attempt);
  }

  /** The same for a synchronous read. */
  onRead(hasSucceeded: boolean): void {
    if (hasSucceeded && !this.#hasReadFailures) return;
    const use = this.begin('reads');
    if (!hasSucceeded) {
      use?.failed();
      return;
    }
    use?.succeeded();
    this.#hasReadFailures = false;
  }

  /** Call it after the outbox has accepted a change. */
  onQueued(): void {
    this.#onChange();
  }

  /** Resolves after the first attempt to open the store, or after a few seconds. Never rejects. */
  async start(): Promise<void> {
    const opening = this.#open();
    this.#recover(opening);
    const started = Promise.all([opening, this.#options.outbox.load()]);
    await withinTime(this.#clock, START_WAIT_MS, started, 'the start').catch(() => undefined);
    this.#onChange();
  }

  /** Flushes what it can, and closes the store. Never rejects. */
  async stop(): Promise<void> {
    const { outbox, onError } = this.#options;
    this.#isStopped = true;
    this.#wakeUp.abort();
    const recovering = this.#recovering ?? Promise.resolve();
    // A call that hangs is abandoned.
    await withinTime(this.#clock, LAST_PROBE_MS, recovering, 'recovering the session store').catch(
      () => undefined,
    );
    await this.#recovery.flushLast(this.#opened?.store);
    const closing = withinTime(this.#clock, CLOSE_MS, outbox.close(), 'closing the journal');
    await Promise.all([this.#opened && this.#close(this.#opened.store), closing.catch(onError)]);
    this.#opened = undefined;
    this.#readable = undefined;
  }

  #createAttempt(opened: StoreInUse, access: Access, attempt: BreakerAttempt): StoreAttempt {
    return {
      store: opened.store,
      isAllowed: () => this.#opened === opened && works(opened, access),
      isDiscarded: () => opened.isDamaged,
      succeeded: () => attempt.succeeded(),
      failed: (error) => {
        if (access === 'reads') this.#hasReadFailures = true;
        if (error !== undefined) this.#noteError(error, opened);
        attempt.failed();
        this.#onChange();
      },
      failedAlone: (error) => {
        this.#noteError(error, opened);
        attempt.abandoned();
        this.#onChange();
      },
    };
  }

  /** Records what an error says about the store; the caller updates the breaker. */
  #noteError(error: unknown, opened: StoreInUse | undefined): void {
    if (opened !== this.#opened) return;
    const failure = asStoreError(error);
    this.status.hasFailed(failure);
    // This process has not closed it, so the store is broken, and opening it again may repair it.
    const isLost = failure.code === 'damaged' || failure.code === 'closed';
    if (!isLost || !opened || opened.isDamaged) return;
    opened.isDamaged = true;
    this.status.hasForgotten();
  }

  /** Call it after anything that may have changed the state. */
  #onChange(): void {
    if (this.#isStopped) return;
    const canRead = works(this.#opened, 'reads');
    const canWrite = works(this.#opened, 'writes');
    this.#readable = canRead ? this.#opened?.store : undefined;
    const failing = canRead ? (canWrite ? 'none' : 'writes') : canWrite ? 'reads' : 'all';
    const isChanged = this.status.update(failing);
    if (isChanged || this.#opened?.isDamaged) this.#wakeUp.abort();
    if (this.#hasWork()) this.#recover(Promise.resolve());
  }

  #hasWork(): boolean {
    return !this.#isStopped && this.status.state() !== 'healthy';
  }

  #recover(after: Promise<void>): void {
    this.#recovering ??= after
      .then(() => this.#recoverAll())
      .finally(() => {
        this.#recovering = undefined;
        // A failure may have come after the last check.
        if (this.#hasWork()) this.#recover(Promise.resolve());
      });
  }

  async #recoverAll(): Promise<void> {
    while (this.#hasWork()) {
      const pauseMs = this.#pauseMs();
      if (pauseMs > 0) await this.#pause(pauseMs);
      else await this.#recoverOnce();
    }
  }

  /** The time until the next attempt; 0 while the store works and changes are to be flushed. */
  #pauseMs(): number {
    const opened = this.#opened;
    const mayTryMs = opened ? trialMs(opened) : openUntilMs(this.#opening);
    return Math.max(0, Math.max(this.#notBeforeMs, mayTryMs) - this.#clock.monotonicMs());
  }

  #pauseFor(ms: number): void {
    this.#notBeforeMs = this.#clock.monotonicMs() + ms;
  }

  /** Ends early when something has changed. */
  async #pause(ms: number): Promise<void> {
    this.#wakeUp = new AbortController();
    await this.#clock.sleep(ms, this.#wakeUp.signal);
  }

  async #recoverOnce(): Promise<void> {
    // Lets requests run between two batches.
    await this.#clock.sleep(0);
    const opened = this.#opened;
    try {
      if (opened?.isDamaged) await this.#discard(opened);
      else if (opened === undefined) await this.#open();
      else await this.#recovery.step(opened);
    } catch (error) {
      // A defect, of a store or here: without a pause it might repeat at once.
      this.#options.onError(error);
      this.#pauseFor(MAX_PAUSE_MS);
    }
    this.#onChange();
  }

  async #open(): Promise<void> {
    const attempt = this.#opening.begin();
    if (!attempt) return;
    let opened: StoreInUse | undefined;
    const isInUse = (): boolean => opened !== undefined && opened === this.#opened;
    try {
      const store = await this.#options.open({
        // Errors that it reports before it is open, such as a quarantined file, are resolved by
        // then.
        onError: (error) => this.#onStoreError(error, opened),
        onDisrupted: () => isInUse() && this.#distrust(),
      });
      attempt.succeeded();
      opened = this.#take(store);
    } catch (error) {
      this.#noteError(error, undefined);
      attempt.failed();
    }
    this.#onChange();
  }

  #take(store: SessionStore): StoreInUse | undefined {
    if (this.#isStopped) {
      void this.#close(store);
      return undefined;
    }
    return (this.#opened = createStoreInUse(store, this.#options));
  }

  #onStoreError(error: StoreError, opened: StoreInUse | undefined): void {
    if (this.#isStopped) return;
    this.#options.onError(error);
    // Errors of a store that is being closed, such as where its file was moved, are not about the
    // next one.
    if (!opened || opened !== this.#opened) return;
    this.#noteError(error, opened);
    this.#onChange();
  }

  #distrust(): void {
    this.status.hasForgotten();
    this.#onChange();
  }

  /** Closes a damaged store; opening it again quarantines the file. */
  async #discard({ store }: StoreInUse): Promise<void> {
    const pauseMs = this.#nextDamagePauseMs();
    this.#opened = undefined;
    this.#onChange();
    await this.#close(store);
    if (pauseMs > 0) this.#pauseFor(pauseMs);
  }

  async #close(store: SessionStore): Promise<void> {
    try {
      await withinTime(this.#clock, CLOSE_MS, store.close(), 'closing the session store');
    } catch (error) {
      this.#options.onError(error);
    }
  }
}
