/** The sessions that this Machine owns and announces to one peer, so that the peer need not query. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { outranks } from './claim-resolver.ts';
import { formatAnnounce, MAX_KEYS, type Claim, type KeyResponse } from './messages.ts';

export interface Announcement {
  readonly claim: Claim;
  /** Monotonic time at which the claim ends, in ms. */
  readonly endsAtMs: number;
  /** Sent again because a peer had claimed the key too; not a third time, whatever peers respond. */
  readonly isRepeated?: true;
}

interface AnnouncementQueueOptions {
  readonly self: MachineId;
  readonly peer: MachineId;
  readonly clock: Clock;
  /** Whether the circuit breaker allows a call to the peer now. */
  readonly mayCall: () => boolean;
  /** Resolves to undefined if the peer has not responded. Never rejects. */
  readonly send: (body: string) => Promise<ReadonlyMap<SessionKey, KeyResponse> | undefined>;
  /** The peer has responded with a claim that outranks ours. */
  readonly onOutranked: (key: SessionKey, claim: Claim) => void;
  /** The peer had claimed the key too, and others may have heard of it after our announcement. */
  readonly onContested: (key: SessionKey, announcement: Announcement) => void;
  /** The queue is full: an announcement was dropped. */
  readonly onDropped: () => void;
}

const MAX_WAITING = 1_024;
/** Kept until the peer responds: it may have claimed the same keys. */
const MAX_DEFERRED = 16_384;

/**
 * ```
 * add ──> waiting ──next batch──> in flight ──response──> done
 *  │         ^                        │
 *  │         └─the peer responds─┐    │no response, or its store can't tell
 *  └─circuit breaker open────> deferred <┘
 * ```
 * If the queue is full, the oldest is dropped. `retract` ends an announcement in any state.
 */
export class AnnouncementQueue {
  readonly #options: AnnouncementQueueOptions;
  readonly #waiting: Batcher<SessionKey, Announcement>;
  readonly #deferred = new Map<SessionKey, Announcement>();
  /** Without those that were retracted since they were sent. */
  #inFlight = new Map<SessionKey, Announcement>();
  #isClosed = false;

  constructor(options: AnnouncementQueueOptions) {
    this.#options = options;
    this.#waiting = new Batcher({ maxBatch: MAX_KEYS, send: (batch) => this.#send(batch) });
  }

  add(key: SessionKey, announcement: Announcement): void {
    if (this.#isClosed) return;
    if (!this.#options.mayCall()) {
      this.defer(key, announcement);
      return;
    }
    this.#deferred.delete(key);
    this.#waiting.add(key, announcement);
    if (this.#waiting.size <= MAX_WAITING) return;
    this.#waiting.removeOldest();
    this.#options.onDropped();
  }

  /** Sends it after the peer's next response. */
  defer(key: SessionKey, announcement: Announcement): void {
    if (this.#isClosed) return;
    this.#deferred.delete(key);
    this.#deferred.set(key, announcement);
    if (this.#deferred.size <= MAX_DEFERRED) return;
    const [oldest] = this.#deferred.keys();
    if (oldest !== undefined) this.#deferred.delete(oldest);
    this.#options.onDropped();
  }

  /**
   * Sends a batch past the queue, and waits for the response. Resolves to whether the peer has stored all of it;
   * never rejects.
   */
  async sendNow(claims: ReadonlyMap<SessionKey, Claim>): Promise<boolean> {
    const { self, send, onOutranked } = this.#options;
    const bindings = [...claims].map(([key, claim]) => ({ key, claim }));
    const responses = await send(formatAnnounce({ from: self, bindings }));
    if (!responses) return false;
    for (const [key, claim] of claims) {
      const theirs = responses.get(key);
      if (typeof theirs === 'object' && this.#isOutranked(key, claim, theirs))
        onOutranked(key, theirs);
    }
    return ![...responses.values()].includes('unknown');
  }

  /** This Machine no longer owns the session. */
  retract(key: SessionKey): void {
    this.#deferred.delete(key);
    this.#waiting.remove(key);
    this.#inFlight.delete(key);
  }

  /** The peer has responded: sends as many deferred ones as the queue takes, the others next time. */
  sendDeferred(): void {
    for (const [key, announcement] of this.#deferred) {
      if (this.#isClosed || this.#waiting.size >= MAX_WAITING) return;
      if (!this.#options.mayCall()) return;
      this.#deferred.delete(key);
      if (announcement.endsAtMs > this.#options.clock.monotonicMs())
        this.#waiting.add(key, announcement);
    }
  }

  /** Drops what waits; resolves when nothing is in flight. */
  close(): Promise<void> {
    this.#isClosed = true;
    this.#deferred.clear();
    this.#waiting.clear();
    return this.#waiting.idle();
  }

  async #send(batch: ReadonlyMap<SessionKey, Announcement>): Promise<void> {
    const { self, clock, send } = this.#options;
    const inFlight = (this.#inFlight = new Map(batch));
    const now = clock.monotonicMs();
    const bindings = [...batch].map(([key, { claim, endsAtMs }]) => {
      const ttlMs = Math.max(1, Math.floor(endsAtMs - now));
      return { key, claim: { ...claim, ttlMs } };
    });
    const responses = await send(formatAnnounce({ from: self, bindings }));
    // After an `unknown` they wait for another response: otherwise they would be sent in a loop.
    if (responses && ![...responses.values()].includes('unknown')) this.sendDeferred();
    for (const [key, announcement] of inFlight)
      this.#finish(key, announcement, responses ? responses.get(key) : 'unknown');
  }

  #finish(key: SessionKey, announcement: Announcement, response: KeyResponse | undefined): void {
    // Unless a newer one was added meanwhile.
    if (response === 'unknown' && !this.#deferred.has(key)) this.defer(key, announcement);
    if (typeof response !== 'object') return;
    if (this.#isOutranked(key, announcement.claim, response))
      this.#options.onOutranked(key, response);
    else if (!announcement.isRepeated) this.#options.onContested(key, announcement);
  }

  /** Computed here too: a wrong response must not make this Machine release its session. */
  #isOutranked(key: SessionKey, ours: Claim, theirs: Claim): boolean {
    const { self, peer } = this.#options;
    return outranks(key, { ...theirs, machine: peer }, { ...ours, machine: self });
  }
}

interface BatcherOptions<Key, Item> {
  readonly maxBatch: number;
  /** Never rejects. The next batch waits until it resolves. */
  readonly send: (batch: ReadonlyMap<Key, Item>) => Promise<void>;
}

/** One batch is in flight at a time. The first leaves at the end of the event loop turn in which it started. */
export class Batcher<Key, Item> {
  readonly #options: BatcherOptions<Key, Item>;
  readonly #waiting = new Map<Key, Item>();
  #inFlight: Promise<void> | undefined;

  constructor(options: BatcherOptions<Key, Item>) {
    this.#options = options;
  }

  /** Items that wait, without those in flight. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Queues the item; it replaces a waiting item of the same key. */
  add(key: Key, item: Item): void {
    this.#waiting.set(key, item);
    this.#inFlight ??= this.#sendAll();
  }

  /** Whether it removed an item that was not in flight yet. */
  remove(key: Key): boolean {
    return this.#waiting.delete(key);
  }

  removeOldest(): void {
    const [oldest] = this.#waiting.keys();
    if (oldest !== undefined) this.#waiting.delete(oldest);
  }

  clear(): void {
    this.#waiting.clear();
  }

  /** Resolves when nothing is in flight and nothing waits. */
  async idle(): Promise<void> {
    await this.#inFlight;
  }

  async #sendAll(): Promise<void> {
    await Promise.resolve();
    while (this.#waiting.size > 0) await this.#options.send(this.#takeBatch());
    this.#inFlight = undefined;
  }

  #takeBatch(): Map<Key, Item> {
    const batch = new Map<Key, Item>();
    for (const [key, item] of this.#waiting) {
      if (batch.size === this.#options.maxBatch) break;
      batch.set(key, item);
      this.#waiting.delete(key);
    }
    return batch;
  }
}
