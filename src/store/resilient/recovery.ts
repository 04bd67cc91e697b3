/** What brings an open store back into use, one step at a time: probe reads, probe writes, refill, flush. */
import type { Clock } from '../../clock.ts';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import { StoreError, type SessionStore } from '../store.ts';
import { withinTime } from '../time-limit.ts';
import type { LocalCopy } from './local-copy.ts';
import type { Outbox } from './outbox.ts';
import {
  FIRST_PAUSE_MS,
  isClosed,
  MAX_PAUSE_MS,
  probeReads,
  probeWrites,
  works,
  type StoreInUse,
  type StoreStatus,
} from './status.ts';

export interface RecoveryOptions {
  readonly self: MachineId;
  readonly isShared: boolean;
  readonly clock: Clock;
  readonly localCopy: LocalCopy;
  readonly outbox: Outbox;
  /** See `WritePath.betweenWrites`. */
  readonly betweenWrites: (key: SessionKey, act: () => void) => Promise<void> | undefined;
  readonly onError: (error: unknown) => void;
}

/** What recovery needs of the supervisor. */
interface RecoveryHost {
  readonly status: StoreStatus;
  /** Whether the store is still the one in use. */
  isCurrent(opened: StoreInUse): boolean;
  noteError(error: unknown, opened: StoreInUse): void;
  /** Pauses all attempts for this time. */
  pauseFor(ms: number): void;
}

const BATCH = 200;
/** The time limit of the last flush at a stop. */
const LAST_FLUSH_MS = 1_000;

export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #host: RecoveryHost;

  constructor(options: RecoveryOptions, host: RecoveryHost) {
    this.#options = options;
    this.#host = host;
  }

  async step(opened: StoreInUse): Promise<void> {
    // A store whose reads fail gets no writes: reads are tried first.
    if (!isClosed(opened.reads)) await this.#tryReads(opened);
    else if (!isClosed(opened.writes)) await this.#tryWrites(opened);
    else if (this.#host.status.needsRefill()) await this.#refill(opened);
    else await this.#flush(opened);
  }

  /** Before the store is closed: reports what is left. Never rejects. */
  async flushLast(store: SessionStore | undefined): Promise<void> {
    const { outbox, clock, onError } = this.#options;
    const untilMs = clock.monotonicMs() + LAST_FLUSH_MS;
    let failure: unknown;
    try {
      while (store && outbox.depth > 0 && clock.monotonicMs() < untilMs) {
        const leftMs = untilMs - clock.monotonicMs();
        await withinTime(clock, leftMs, outbox.flush(store, BATCH), 'the last flush');
      }
    } catch (error) {
      failure = error;
    }
    const { depth, isDurable } = outbox;
    if (depth === 0) return;
    const fate = isDurable ? 'the next start flushes them' : 'they are lost';
    const text = `could not flush ${depth} changes to the session store: ${fate}`;
    onError(new StoreError('passing', text, { cause: failure }));
  }

  async #tryReads({ store, reads }: StoreInUse): Promise<void> {
    const attempt = reads.begin();
    if (!attempt) return;
    const canRead = await probeReads(store, this.#options.clock);
    if (canRead) attempt.succeeded();
    else attempt.failed();
  }

  async #tryWrites(opened: StoreInUse): Promise<void> {
    const attempt = opened.writes.begin();
    if (!attempt) return;
    const { outbox, self, clock } = this.#options;
    try {
      const isFull = this.#host.status.lastError?.code === 'full';
      if (isFull) await this.#makeRoom(opened.store);
      const flushed = isFull ? 0 : await outbox.flush(opened.store, 1);
      if (flushed === 0) await probeWrites(opened.store, self, clock);
      attempt.succeeded();
    } catch (error) {
      this.#host.noteError(error, opened);
      attempt.failed();
    }
  }

  /** Expired rows may be all that a full disk can free. */
  async #makeRoom(store: SessionStore): Promise<void> {
    const { clock } = this.#options;
    const cleanup = store.cleanup();
    await withinTime(clock, MAX_PAUSE_MS, cleanup, 'cleaning up').catch(() => undefined);
  }

  /**
   * Each Machine refills a shared store with its own bindings; a file has only this Machine. A key
   * that is being written takes its turn: the result of the write is newer. If the write changes
   * nothing, or went to the store before, the binding is still to be restored. Writes called later
   * come behind, so that a session in constant use does not hold up the others.
   */
  async #refill(opened: StoreInUse): Promise<void> {
    const { localCopy, outbox, betweenWrites, onError } = this.#options;
    const { status } = this.#host;
    const { losses } = status;
    const waiting: Promise<void>[] = [];
    for await (const binding of localCopy.entries()) {
      const { key } = binding;
      const inTurn = betweenWrites(key, () => this.#restore(localCopy.find(key)));
      if (inTurn) waiting.push(inTurn.catch(onError));
      else this.#restore(binding);
      while (outbox.depth >= BATCH) if (!(await this.#flush(opened))) return;
    }
    await Promise.all(waiting);
    status.wasRefilled(losses);
  }

  #restore(binding: Binding | undefined): void {
    const { outbox, self, isShared } = this.#options;
    if (binding && (!isShared || binding.machine === self)) outbox.restore(binding);
  }

  /** Whether the store takes changes. */
  async #flush(opened: StoreInUse): Promise<boolean> {
    if (!this.#host.isCurrent(opened) || !works(opened, 'writes')) return false;
    const attempt = opened.writes.begin();
    const { outbox } = this.#options;
    try {
      const flushed = await outbox.flush(opened.store, BATCH);
      // The store has rejected what is left.
      if (flushed === 0 && outbox.depth > 0) this.#host.pauseFor(FIRST_PAUSE_MS);
      return true;
    } catch (error) {
      this.#host.noteError(error, opened);
      attempt?.failed();
      return false;
    }
  }
}
