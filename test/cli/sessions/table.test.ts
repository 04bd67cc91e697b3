import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TABLE_HEAD, tableRow } from '../../../src/cli/sessions/inspect.ts';
import { formatDuration } from '../../../src/duration.ts';
import { keyOf, machineId } from '../../support/ids.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

for (const [ms, text] of [
  [-5, '0s'],
  [0, '0s'],
  [999, '0s'],
  [59_999, '59s'],
  [MINUTE_MS, '1m'],
  [9 * MINUTE_MS + 58 * SECOND_MS, '9m58s'],
  [HOUR_MS + 59 * SECOND_MS, '1h'],
  [26 * HOUR_MS + MINUTE_MS, '1d2h'],
  [1_000 * 24 * HOUR_MS, '1000d'],
] as const) {
  test(`${ms} ms are ${text}`, () => {
    assert.equal(formatDuration(ms), text);
  });
}

test('a row is aligned with its head', () => {
  const binding = {
    machine: machineId('148e21ea7e5689'),
    origin: 'adopted',
    generation: 3,
  } as const;
  const times = { createdAt: 1_000, expiresAt: 61_000 };
  const row = tableRow({ key: keyOf('one'), ...binding, ...times }, 31_000);
  for (const [name, value] of [
    ['KEY', keyOf('one')],
    ['OWNER', '148e21ea7e5689'],
    ['ORIGIN', 'adopted'],
    ['GENERATION', '3 '],
    ['AGE', '30s'],
    ['EXPIRES IN', '30s'],
  ] as const) {
    assert.ok(row.slice(TABLE_HEAD.indexOf(name)).startsWith(value), name);
  }
});
