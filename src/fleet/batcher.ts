/** Group commit for messages: items added while a batch is in flight form the next batch. */

export interface BatcherOptions<Key, Item> {
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
