/**
 * The writes in flight, of each key one after the other: so a write that is retried, or accepted
 * elsewhere after a failure, still takes effect before the writes called after it.
 */
import type { SessionKey } from '../../session.ts';
import type { Write } from '../rules.ts';

export interface WritesInFlight {
  /**
   * The writes of the key in the order of their calls, for reads: the list itself never changes.
   */
  of(key: SessionKey): readonly Write[] | undefined;
  /**
   * Calls `perform` when all earlier writes of the key have ended; at once if there are none.
   * Settles as `perform` does, when the write is no longer in flight.
   */
  run<Result>(write: Write, perform: () => Promise<Result>): Promise<Result>;
  /**
   * Call it when a read is sent. Call the result once, when the read is back: it says whether a
   * write of the key was called meanwhile; then the read value may be older than that write.
   */
  beginRead(key: SessionKey): () => boolean;
  /** Resolves once all writes called so far have ended. */
  ended(): Promise<void>;
}

interface OfKey {
  readonly writes: readonly Write[];
  /** The promise of the last write. */
  readonly done: Promise<unknown>;
}

interface Reads {
  count: number;
  isCrossed: boolean;
}

export function createWritesInFlight(): WritesInFlight {
  const byKey = new Map<SessionKey, OfKey>();
  const reading = new Map<SessionKey, Reads>();

  const settle = (key: SessionKey): void => {
    const ofKey = byKey.get(key);
    if (!ofKey || ofKey.writes.length === 1) byKey.delete(key);
    else byKey.set(key, { ...ofKey, writes: ofKey.writes.slice(1) });
  };

  return {
    of: (key) => (byKey.size === 0 ? undefined : byKey.get(key)?.writes),
    run: (write, perform) => {
      const { key } = write;
      const reads = reading.get(key);
      if (reads) reads.isCrossed = true;
      const earlier = byKey.get(key);
      const done = (earlier ? earlier.done.then(perform, perform) : perform()).then(
        (result) => {
          settle(key);
          return result;
        },
        (error: unknown) => {
          settle(key);
          throw error;
        },
      );
      byKey.set(key, { writes: earlier ? [...earlier.writes, write] : [write], done });
      return done;
    },
    beginRead: (key) => {
      const reads = reading.get(key) ?? { count: 0, isCrossed: false };
      reads.count += 1;
      reading.set(key, reads);
      return () => {
        reads.count -= 1;
        if (reads.count === 0) reading.delete(key);
        return reads.isCrossed;
      };
    },
    ended: async () => {
      await Promise.allSettled([...byKey.values()].map(({ done }) => done));
    },
  };
}
