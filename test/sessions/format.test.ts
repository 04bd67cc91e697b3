import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatEnd, formatSession, HEAD, parseSessionLine } from '../../src/sessions/document.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { anyBinding } from './arbitraries.ts';

const LINE = formatSession({
  key: keyOf('one'),
  machine: machineId('a1'),
  origin: 'learned',
  generation: 1,
  createdAt: 1,
  expiresAt: 2,
});

/** A line with a member changed, or removed if undefined. */
function lineWith(changes: object): string {
  return JSON.stringify({ ...(JSON.parse(LINE) as object), ...changes });
}

test('every binding survives being formatted and parsed', () => {
  fc.assert(
    fc.property(anyBinding, (binding) => {
      assert.deepEqual(parseSessionLine(formatSession(binding)), { kind: 'session', binding });
    }),
  );
});

test('every count of sessions survives being formatted and parsed', () => {
  fc.assert(
    fc.property(fc.nat(), (sessionCount) => {
      assert.deepEqual(parseSessionLine(formatEnd(sessionCount)), { kind: 'end', sessionCount });
    }),
  );
});

/** A line of an export with one error. */
const almostLine = fc
  .tuple(fc.constantFrom(LINE, HEAD, formatEnd(3)), fc.nat(), fc.nat(5), fc.string())
  .map(([line, at, length, text]) => {
    const start = at % line.length;
    return line.slice(0, start) + text + line.slice(start + length);
  });

test('any line is parsed to its content or rejected with a sentence', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), almostLine), (text) => {
      const line = parseSessionLine(text);
      if ('problem' in line) assert.match(line.problem, /^[\x20-\x7e]{10,600}$/);
    }),
    { numRuns: 1_000 },
  );
});

test('an unknown member is ignored, so that a later version can add one', () => {
  assert.equal(parseSessionLine(lineWith({ region: 'fra' })).kind, 'session');
  assert.equal(parseSessionLine(HEAD.replace('}', ',"by":"x"}')).kind, 'head');
});

const PROBLEMS: readonly (readonly [text: string, problem: string])[] = [
  ['', 'is not a JSON object'],
  ['{"key":', 'is not a JSON object'],
  ['[1]', 'is not a JSON object'],
  ['null', 'is not a JSON object'],
  [
    lineWith({ key: 'A0'.repeat(16) }),
    'key must be 32 digits of 0-9 and a-f, got a string of 32 characters',
  ],
  [lineWith({ key: 7 }), 'key must be 32 digits of 0-9 and a-f, got 7'],
  [
    lineWith({ owner: 'a_1' }),
    'owner must be a Machine id, 1 to 32 characters of a-z and 0-9, got a string of 3 characters',
  ],
  [lineWith({ origin: [] }), 'origin must be one of copied, adopted, learned, got an array'],
  [lineWith({ generation: 0 }), 'generation must be a whole number from 1, got 0'],
  [lineWith({ generation: 1.5 }), 'generation must be a whole number from 1, got 1.5'],
  [lineWith({ generation: 2 ** 31 }), 'generation must be a whole number from 1, got 2147483648'],
  [
    lineWith({ createdAt: undefined }),
    'createdAt must be a whole number of ms since the epoch, got nothing',
  ],
  [
    lineWith({ expiresAt: -1, generation: null }),
    'generation must be a whole number from 1, got null; ' +
      'expiresAt must be a whole number of ms since the epoch, got -1',
  ],
  [
    '{"end":true,"sessions":1}',
    'is neither a session nor a last line such as {"end":"fly-affinity-sessions","sessions":1}',
  ],
  ['{"format":"csv","version":1}', 'has another format than fly-affinity-sessions'],
  [
    HEAD.replace('1}', '2}'),
    'has version 2, but this fly-affinity reads version 1: use a newer one',
  ],
  [HEAD.replace('1}', '"1"}'), 'version must be 1, got a string of 1 characters'],
];

for (const [text, problem] of PROBLEMS) {
  test(`${text || 'an empty line'} ${problem}`, () => {
    const line = parseSessionLine(text);
    assert.equal('problem' in line && line.problem, problem);
  });
}

test('no sentence quotes its input: it may be an id', () => {
  const id = '3f2b8c1e-a-session-id';
  for (const text of [
    id,
    `{"key":"${id}"}`,
    lineWith({ key: id }),
    lineWith({ owner: id, origin: id, generation: id, createdAt: id, expiresAt: id }),
    JSON.stringify({ format: id }),
    JSON.stringify({ format: 'fly-affinity-sessions', version: id }),
    JSON.stringify({ end: id, sessions: id }),
    JSON.stringify({ [id]: id }),
  ]) {
    const line = parseSessionLine(text);
    assert.ok('problem' in line, text);
    assert.ok(!line.problem.includes('session-id'), line.problem);
  }
});
