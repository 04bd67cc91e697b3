import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { excessOf, type Counts } from '../../../src/store/postgres/upkeep.ts';
import { PostgresUpkeep } from '../../../src/store/postgres/upkeep.ts';
import type { PostgresPool } from '../../../src/store/postgres/pool.ts';

const cases: [
  claim: string,
  counts: Counts,
  maxSessions: number,
  excess: [origin: string, count: number][],
][] = [
  ['nothing within the limits', { learned: 5, adopted: 5, copied: 0 }, 10, []],
  ['copies first', { learned: 8, adopted: 2, copied: 3 }, 10, [['copied', 3]]],
  [
    'then adopted ones, then learned ones',
    { learned: 12, adopted: 2, copied: 1 },
    10,
    [
      ['copied', 1],
      ['adopted', 2],
      ['learned', 2],
    ],
  ],
  [
    'adopted ones beyond half of the limit',
    { learned: 1, adopted: 7, copied: 0 },
    10,
    [['adopted', 2]],
  ],
  [
    'both at once',
    { learned: 6, adopted: 7, copied: 3 },
    10,
    [
      ['copied', 3],
      ['adopted', 3],
    ],
  ],
  ['all but one with a limit of one', { learned: 0, adopted: 3, copied: 0 }, 1, [['adopted', 2]]],
];
describe('the excess', () => {
  for (const [claim, counts, maxSessions, excess] of cases) {
    test(`is ${claim}`, () => {
      assert.deepEqual(excessOf(counts, maxSessions), excess);
    });
  }
});

describe('the rows are counted', () => {
  /** Counts the calls, and returns the value of `held` at that moment. */
  function createUpkeep(maxSessions: number, held: () => number) {
    let countsMade = 0;
    const errors: unknown[] = [];
    const count = (text: string): readonly Record<string, unknown>[] => {
      if (!text.includes('count(*)')) return [];
      countsMade += 1;
      return [{ origin: 0, all: String(held()), alive: String(held()) }];
    };
    const pool: Pick<PostgresPool, 'transaction'> = {
      transaction: (run) =>
        run(async (text) => {
          await nextTurn();
          return count(text);
        }),
    };
    const upkeep = new PostgresUpkeep({
      pool,
      settings: { namespace: 'n', maxAgeMs: 0, serverTime: undefined },
      maxSessions,
      onEvicted: () => undefined,
      onError: (error) => errors.push(error),
    });
    return { upkeep, countsMade: () => countsMade, errors };
  }

  test('at the first write, and then more often as the free space shrinks', async () => {
    let held = 0;
    const { upkeep, countsMade, errors } = createUpkeep(100_000, () => held);
    while (held < 99_000) {
      held += 1;
      upkeep.noteWritten('learned');
      await upkeep.idle();
    }
    // Far fewer than one in a hundred, and the last within a few writes.
    assert.ok(countsMade() > 50 && countsMade() < 200, `${countsMade()} times`);
    assert.deepEqual(errors, []);
  });

  test('once at a time, however many writes happen during a count', async () => {
    const { upkeep, countsMade } = createUpkeep(100_000, () => 0);
    for (let written = 0; written < 1_000; written += 1) upkeep.noteWritten('learned');
    await upkeep.idle();
    assert.equal(countsMade(), 1);
  });

  test('again after a count, for the writes during it, and no caller waits for a third one', async () => {
    const { upkeep, countsMade } = createUpkeep(10, () => 10);
    let isOver = false;
    const write = (): void => {
      upkeep.noteWritten('learned');
      if (!isOver) setImmediate(write);
    };
    write();
    await upkeep.idle();
    assert.ok(countsMade() >= 1);
    isOver = true;
    await upkeep.idle();
    const countBefore = countsMade();
    await upkeep.idle();
    assert.equal(countsMade(), countBefore);
  });

  test('after a count that failed: with the next write', async () => {
    let isFailing = true;
    const { upkeep, countsMade, errors } = createUpkeep(10, () => {
      if (isFailing) throw new Error('no answer');
      return 0;
    });
    upkeep.noteWritten('learned');
    await upkeep.idle();
    assert.equal(errors.length, 1);
    isFailing = false;
    upkeep.noteWritten('learned');
    await upkeep.idle();
    assert.equal(errors.length, 1);
    assert.equal(countsMade(), 2);
  });

  test('no more after a stop', async () => {
    const { upkeep, countsMade } = createUpkeep(100, () => 0);
    upkeep.stop();
    upkeep.noteWritten('learned');
    await upkeep.idle();
    assert.equal(countsMade(), 0);
  });
});
