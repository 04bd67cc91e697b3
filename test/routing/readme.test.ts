/** The decision table of the README and the one in the code: every row of each is in the other. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decide, DECISION_ROWS } from '../../src/routing/decide.ts';
import { WHYS, type Decision } from '../../src/routing/decision.ts';
import {
  decideLostClaim,
  decideUnreachedPlace,
  EARLY_DECISIONS,
} from '../../src/routing/decisions-without-table.ts';
import { anyFacts, anyOwner, anyState, OTHER, SELF } from './arbitraries.ts';

const README = readFileSync(new URL('../../src/routing/README.md', import.meta.url), 'utf8');
const ROW = /^\| (\d+) +\| (.+?) +\| (.+?) +\| (.+?) +\|$/gm;

interface DocumentedRow {
  readonly number: number;
  readonly decision: string;
  readonly whys: readonly string[];
}

const DOCUMENTED: readonly DocumentedRow[] = [...README.matchAll(ROW)].map(
  ([, number, , decision = '', whys = '']) => ({
    number: Number(number),
    decision,
    whys: whys.split(', ').map((why) => why.replaceAll('`', '')),
  }),
);

const CODED: readonly DocumentedRow[] = DECISION_ROWS.map(({ number, decision, whys }) => ({
  ...{ number, decision, whys },
}));

const byNumber = (one: DocumentedRow, other: DocumentedRow): number => one.number - other.number;

/** As in the README. */
function textOf(decision: Decision): string {
  switch (decision.kind) {
    case 'refuse':
      return `refuse ${decision.status}`;
    case 'local': {
      if (decision.takeOverFrom !== undefined) return 'local, may take over';
      return `local${decision.mayClaim ? ', may claim' : ''}${decision.isInDoubt ? ', in doubt' : ''}`;
    }
    default:
      return decision.kind;
  }
}

describe('the decision table of the README', () => {
  test('has the rows of the code, and the code has its rows', () => {
    assert.deepEqual(DOCUMENTED.toSorted(byNumber), CODED.toSorted(byNumber));
  });

  test('numbers each row once, without a gap', () => {
    const numbers = DOCUMENTED.map(({ number }) => number);
    assert.deepEqual(
      numbers,
      [...numbers.keys()].map((index) => index + 1),
    );
  });

  test('contains every reason', () => {
    const given = new Set(DOCUMENTED.flatMap(({ whys }) => whys));
    assert.deepEqual([...given].sort(), [...WHYS].sort());
  });

  test('states the decision of each row, and each row of the table produces a decision', () => {
    const decided = new Set<number>();
    const property = fc.property(anyFacts, anyOwner, anyState, (facts, owner, state) => {
      let number = 0;
      const decision = decide(facts, owner, state, (row) => (number = row));
      const row = DOCUMENTED.find((documented) => documented.number === number);
      assert.deepEqual([row?.decision, row?.whys.includes(decision.why)], [textOf(decision), true]);
      decided.add(number);
    });
    fc.assert(property, { numRuns: 100_000, seed: 1 });
    const missing = DOCUMENTED.filter(({ number }) => number <= 42 && !decided.has(number));
    assert.deepEqual(missing, []);
  });

  test('states the decisions before the table and after an attempt', () => {
    const decided = [
      ...Object.values(EARLY_DECISIONS),
      decideLostClaim('peer', true, OTHER),
      decideLostClaim('edge', false, OTHER),
      decideLostClaim('edge', true, OTHER),
      decideUnreachedPlace(OTHER, SELF),
      decideUnreachedPlace(undefined, SELF),
    ];
    assert.deepEqual(
      DOCUMENTED.filter(({ number }) => number > 42).map(({ decision, whys }) => [
        decision,
        ...whys,
      ]),
      decided.map((decision) => [textOf(decision), decision.why]),
    );
  });
});
