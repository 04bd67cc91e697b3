/** A resilient store around any store, with all that it reports. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { StoreHealth, WriteBackResult } from '../../src/store/store.ts';
import {
  openResilientStore,
  type ResilientOptions,
  type ResilientStore,
} from '../../src/store/resilient/resilient-store.ts';
import type { Conflict } from '../../src/store/resilient/pending-change.ts';
import type { TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';

/** The required and optional inputs of a test. */
type WrapOptions = Pick<ResilientOptions, 'open'> & Partial<ResilientOptions>;

export interface Wrapped extends ResilientStore {
  /** The reported changes, one entry each. */
  readonly reported: readonly StoreHealth[];
  readonly writtenBack: readonly WriteBackResult[];
  readonly conflicts: readonly Conflict[];
  readonly errors: readonly unknown[];
}

export async function openWrapped(
  t: TestContext,
  { clock, limits }: Pick<ResilientOptions, 'clock' | 'limits'>,
  options: WrapOptions,
  waitFor: <Result>(work: Promise<Result>) => Promise<Result> = (work) => work,
): Promise<Wrapped> {
  const reported: StoreHealth[] = [];
  const writtenBack: WriteBackResult[] = [];
  const conflicts: Conflict[] = [];
  const errors: unknown[] = [];
  const opening = openResilientStore({
    ...{ clock, limits, kind: 'memory', isShared: false, self: machineId('a1') },
    ...{ ttlMs: 60_000, retryCount: 0, retryDelayMs: 0, random: () => 0.5 },
    onHealth: (health) => reported.push(health),
    onError: (error) => errors.push(error),
    onWrittenBack: (result, conflict) => {
      writtenBack.push(result);
      if (conflict) conflicts.push(conflict);
    },
    ...options,
  });
  const store = await waitFor(opening);
  t.after(() => waitFor(store.close()));
  return Object.assign(store, { reported, writtenBack, conflicts, errors });
}

const STEP_MS = 50;
/** No wait takes longer. */
const MAX_STEPS = 1_000;

/**
 * Waits for something that may need time, and advances the clock meanwhile: not for anything that
 * needs real time.
 */
export async function passing<Result>(clock: TestClock, work: Promise<Result>): Promise<Result> {
  const progress = { isOver: false };
  const over = work.finally(() => (progress.isOver = true));
  // It is awaited below.
  over.catch(() => undefined);
  await clock.advance(0);
  await until(clock, () => progress.isOver);
  return over;
}

/** Advances time step by step, so that timers that fire on the way can do their work. */
export async function pass(clock: TestClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += STEP_MS) {
    await clock.advance(Math.min(STEP_MS, ms - passed));
  }
}

/** Advances time until the condition holds, with a limit. */
export async function until(
  clock: TestClock,
  isSo: () => boolean | Promise<boolean>,
  stepMs = STEP_MS,
): Promise<void> {
  for (let step = 0; step < MAX_STEPS; step += 1) {
    if (await isSo()) return;
    await clock.advance(stepMs);
  }
  assert.fail(`never became true: ${isSo.toString()}`);
}
