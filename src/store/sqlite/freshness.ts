/**
 * Says whether cached reads of the file are still valid, though other processes write to it. The
 * writer thread returns a stamp that changes only when another connection has committed
 * (https://www.sqlite.org/pragma.html#pragma_data_version): an equal stamp proves that no other
 * process has written since the last response, and our own writes are known anyway.
 *
 *     check ─ last request 250 ms ago or earlier, none in flight ─> sends one; waits for nothing
 *     response ─ another stamp than the last ─> onForeignWrite: the cache is cleared
 *              └ else ─> verified as of the time of the REQUEST: the response may have been slow
 *     check ─ verified within the last second ─> fresh, else not
 *
 * Why an equal stamp also proves what was read before the last response: that response verified it,
 * or invalidated it. The result of a write is committed before the stamp is read or after it, and
 * the responses are handled in the same order: the thread responds in order, and Node runs the
 * reactions to one message before it delivers the next.
 *
 * There is no timer: without reads no check is needed. While the thread waits for a lock, or is
 * gone, nothing is fresh after a second, and reads go to the file.
 */
import type { Clock } from '../../clock.ts';
import type { Stamp } from './protocol.ts';
import type { WriterResult } from './thread.ts';

export interface Freshness {
  /** True if a write of another process more than a second ago would have been noticed. */
  check(): boolean;
}

export interface FreshnessOptions {
  readonly clock: Clock;
  /**
   * May reject. Does not use the write queue: it needs no lock, and would wait behind writes that
   * do.
   */
  readonly askForStamp: () => Promise<WriterResult<'stamp'>>;
  /**
   * Also called for the first stamp, and for that of another thread: these can't be compared with
   * earlier ones.
   */
  readonly onForeignWrite: () => void;
}

/** A quarter of the staleness limit, so that a late response does not force a read. */
const QUESTION_INTERVAL_MS = 250;
/** What another process writes is visible within this time. */
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
      // Then nothing is fresh, and reads of the file report the problem.
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
