/** Clocks for tests: one stands still until the test advances it, the other advances by itself. */
import type { TestContext } from 'node:test';
import type { Cancel, Clock } from '../../src/clock.ts';

/** The time at which a test clock starts: 2026-01-01T00:00:00Z. */
const DEFAULT_START_MS = Date.UTC(2026, 0, 1);

export interface TestClock extends Clock {
  /**
   * Advances time by `ms` and fires the timers that are due, ordered by time and then by creation.
   * After each timer all the work that it started without I/O has run, so a timer that a timer sets
   * fires too if it is due.
   */
  advance(ms: number): Promise<void>;
  /** Pending timers and sleeps: 0 when everything that was started is stopped. */
  pendingCount(): number;
}

interface Timer {
  dueAt: number;
  readonly fire: () => void;
  readonly everyMs: number | undefined;
}

export function createTestClock(startMs = DEFAULT_START_MS): TestClock {
  const timers = new Set<Timer>();
  let now = startMs;

  const add = (ms: number, fire: () => void, everyMs?: number): Cancel => {
    const timer: Timer = { dueAt: now + Math.max(ms, 0), fire, everyMs };
    timers.add(timer);
    return () => void timers.delete(timer);
  };

  return {
    now: () => now,
    monotonicMs: () => now - startMs,
    sleep: (ms, signal) => sleepOn(add, ms, signal),
    after: (ms, fn) => add(ms, fn),
    every: (ms, fn) => add(ms, fn, Math.max(ms, 1)),
    pendingCount: () => timers.size,
    advance: (ms) => {
      const until = now + ms;
      return everyTurn(() => {
        const timer = nextDue(timers, until);
        now = timer?.dueAt ?? until;
        if (timer === undefined) return false;
        if (timer.everyMs === undefined) timers.delete(timer);
        else reschedule(timers, timer, timer.everyMs);
        timer.fire();
        return true;
      });
    },
  };
}

/** Queries and responses within this process take few turns, fewer than any timeout. */
const MS_PER_TURN = 5;

/**
 * Advances with the turns of the event loop: a timeout takes a fraction of its real time, and a busy
 * computer makes nothing late, because its turns are slow too. Not for work of a thread, another
 * process or the file system: these take time and no turns.
 */
export function startTurnClock(t: TestContext): Clock {
  const clock = createTestClock();
  let isOver = false;
  t.after(() => (isOver = true));
  const advance = (): void => {
    // The things that the test has started may need time to stop.
    if (isOver && clock.pendingCount() === 0) return;
    void clock.advance(MS_PER_TURN).then(advance);
  };
  advance();
  return clock;
}

/**
 * Runs one step per turn of the event loop, as long as there are more. No promise per turn: a day
 * of a timer that fires each second is 86,400 of them.
 */
function everyTurn(step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const takeStep = (): void => {
      try {
        setImmediate(step() ? takeStep : resolve);
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    setImmediate(takeStep);
  });
}

/** A repeating timer follows the others that are due at the same moment, as with node's. */
function reschedule(timers: Set<Timer>, timer: Timer, everyMs: number): void {
  timer.dueAt += everyMs;
  timers.delete(timer);
  timers.add(timer);
}

function sleepOn(
  add: (ms: number, fire: () => void) => Cancel,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = add(ms, done);
    signal?.addEventListener('abort', done);
  });
}

/** Sets keep the order of insertion, so the first of equal ones is the one set first. */
function nextDue(timers: Set<Timer>, until: number): Timer | undefined {
  let next: Timer | undefined;
  for (const timer of timers) {
    if (timer.dueAt <= until && (next === undefined || timer.dueAt < next.dueAt)) next = timer;
  }
  return next;
}
