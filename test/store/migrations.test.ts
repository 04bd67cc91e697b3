import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nextStep, type MigrationStep } from '../../src/store/migrations.ts';

const STEPS: readonly MigrationStep[] = [
  { sql: 'one', oldestReader: 1 },
  { sql: 'two', oldestReader: 2 },
  { sql: 'three', oldestReader: 1 },
];

describe('the next step', () => {
  const cases: [claim: string, version: number, oldestReader: number, sql: string | undefined][] = [
    ['of an empty database is the first', 0, 0, 'one'],
    ['of an older schema is the one after it', 2, 2, 'three'],
    ['of our own schema is none', 3, 2, undefined],
    ['of a newer one that we understand is none', 4, 3, undefined],
    ['of a much newer one that we understand is none', 9, 1, undefined],
  ];
  for (const [claim, version, oldestReader, sql] of cases) {
    test(claim, () => {
      assert.equal(nextStep({ version, oldestReader }, STEPS)?.sql, sql);
    });
  }

  test('is an error for a newer schema that we do not understand, with both versions', () => {
    assert.throws(() => nextStep({ version: 5, oldestReader: 4 }, STEPS), {
      name: 'StoreError',
      code: 'fatal',
      message: /version 5.*version 3 at most.*newer/,
    });
  });

  test('never restores support for a version that an earlier step dropped', () => {
    const { becomes } = nextStep({ version: 2, oldestReader: 2 }, STEPS) ?? {};
    assert.deepEqual(becomes, { version: 3, oldestReader: 2 });
  });
});
