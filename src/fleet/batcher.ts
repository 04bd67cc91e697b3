/** Group commit for messages: what arrives while a batch is under way is the next batch. */

export interface BatcherOptions<Key, Item> {
  readonly maxBatch: number;
  /** Never rejects. The next batch waits until it resolves. */
  readonly send: (batch: ReadonlyMap<Key, Item>) => Promise<void>;
}

export interface Batcher<Key, Item> {
  /** Queues the item, in the place of one that waits under the same key. */
  add(key: Key, item: Item): void;
  /** Takes an item back that isn't under way yet, and says whether it did. */
  remove(key: Key): boolean;
  /** Takes back the one that has waited longest. */
  removeOldest(): void;
  /** Items waiting, those under way not counted. */
  size(): number;
  /** Takes back everything that waits. */
  clear(): void;
  /** Resolves when no batch is under way and none will start by itself. */
  idle(): Promise<void>;
}

/** One batch under way at a time; the first leaves at the end of the turn in which it was begun. */
export function createBatcher<Key, Item>(options: BatcherOptions<Key, Item>): Batcher<Key, Item> {
  const { maxBatch, send } = options;
  const waiting = new Map<Key, Item>();
  let underWay: Promise<void> | undefined;

  function takeBatch(): Map<Key, Item> {
    const batch = new Map<Key, Item>();
    for (const [key, item] of waiting) {
      if (batch.size === maxBatch) break;
      batch.set(key, item);
      waiting.delete(key);
    }
    return batch;
  }

  async function sendAll(): Promise<void> {
    await Promise.resolve();
    while (waiting.size > 0) await send(takeBatch());
    underWay = undefined;
  }

  return {
    add: (key, item) => {
      waiting.set(key, item);
      underWay ??= sendAll();
    },
    remove: (key) => waiting.delete(key),
    removeOldest: () => {
      const [oldest] = waiting.keys();
      if (oldest !== undefined) waiting.delete(oldest);
    },
    size: () => waiting.size,
    clear: () => waiting.clear(),
    idle: () => underWay ?? Promise.resolve(),
  };
}
