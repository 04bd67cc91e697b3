/**
 * Tells whether what was read of the file may still be believed, though other processes write to
 * it. The writer thread is asked for a stamp that changes only when another connection has
 * committed (https://www.sqlite.org/pragma.html#pragma_data_version): an equal stamp proves that
 * since the last answer nobody else has written, and our own writes are known anyway.
 *
 *     check ─ asked 250 ms ago or earlier, no question under way ─> asks; waits for nothing
 *     answer ─ another stamp than the last ─> onForeignWrite: all that was read is forgotten
 *            └ verified as of the moment of the QUESTION: the answer may have taken its time
 *     check ─ verified within the last second ─> fresh, else not
 *
 * Why an equal stamp is proof of what was read before the last answer, too: that was verified, or
 * forgotten, by that answer. What a write left behind is committed before the stamp is read or
 * after it, and its answer is handled in the same order: the thread answers in order, and Node
 * runs what follows upon one message before it delivers the next.
 *
 * There is no timer: who is not asked needs no answer. While the thread waits for a lock, or is
 * gone, nothing is fresh after a second, and reads go to the file.
 */
import type { Clock } from '../../clock.ts';
import type { Stamp } from './protocol.ts';
import type { Answer } from './thread.ts';

export interface Freshness {
  /** Whether no other process can have written more than a second ago without our having heard. */
  check(): boolean;
}

export interface FreshnessOptions {
  readonly clock: Clock;
  /** May reject. Not through the queue of writes: it needs no lock, and would wait behind those that do. */
  readonly askForStamp: () => Promise<Answer<'stamp'>>;
  /** Also on the first stamp, and on that of another thread: they can't be compared with what was before. */
  readonly onForeignWrite: () => void;
}

/** A quarter of what may go unseen, so that an answer may be late without a read for it. */
const QUESTION_INTERVAL_MS = 250;
/** What another process wrote is seen within that time. */
const MAX_UNSEEN_MS = 1_000;

export function createFreshness(options: FreshnessOptions): Freshness {
  const { clock, askForStamp, onForeignWrite } = options;
  let askedAt = -Infinity;
  let verifiedAt = -Infinity;
  let isUnderWay = false;
  let lastStamp: Stamp | undefined;

  const verify = async (): Promise<void> => {
    try {
      const stamp = await askForStamp();
      if (typeof stamp === 'string') return;
      if (!isSame(stamp, lastStamp)) onForeignWrite();
      lastStamp = stamp;
      verifiedAt = askedAt;
    } catch {
      // Then nothing is fresh, and reads of the file tell what is wrong with it.
    } finally {
      isUnderWay = false;
    }
  };

  return {
    check: () => {
      const now = clock.monotonicMs();
      if (now - askedAt >= QUESTION_INTERVAL_MS && !isUnderWay) {
        askedAt = now;
        isUnderWay = true;
        void verify();
      }
      return now - verifiedAt < MAX_UNSEEN_MS;
    },
  };
}

function isSame(one: Stamp, other: Stamp | undefined): boolean {
  return one.threadId === other?.threadId && one.dataVersion === other.dataVersion;
}
