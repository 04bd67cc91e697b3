/**
 * The writes that were called and have not ended yet, of each key one after the other: so a write
 * that is tried again, or fails and is accepted elsewhere, still takes effect before those that were
 * called after it.
 */
import type { SessionKey } from '../../session.ts';
import type { Write } from '../rules.ts';

export interface WritesInFlight {
  /** Those of the key in the order of their calls, for reads to see: the list itself never changes. */
  of(key: SessionKey): readonly Write[] | undefined;
  /**
   * Calls `perform` when all earlier writes of the key have ended; at once if there are none.
   * Settles as it does, when the write no longer counts as under way.
   */
  run<Result>(write: Write, perform: () => Promise<Result>): Promise<Result>;
  /**
   * To be called when a read goes out. The result, to be called once when it is back, says whether
   * a write of the key was called meanwhile: then what was read may be older than that.
   */
  beginRead(key: SessionKey): () => boolean;
  /** Resolves once all writes called so far have ended. */
  ended(): Promise<void>;
}

interface OfKey {
  readonly writes: readonly Write[];
  /** Of the last of them. */
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
