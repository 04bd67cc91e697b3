import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  mayHoldJsonId,
  parsePointer,
  readJsonId,
  readJsonIds,
} from '../../src/protocols/json-id.ts';
import { MAX_BODY_BYTES } from '../../src/protocols/request-ids.ts';
import { cpuMsOf } from '../support/cpu.ts';

function read(json: string, pointer: string): string | undefined {
  const parts = parsePointer(pointer);
  assert.ok(parts);
  return readJsonId(Buffer.from(json, 'utf8').toString('latin1'), parts);
}

// prettier-ignore
const FOUND: readonly (readonly [json: string, pointer: string, id: string])[] = [
  ['{"id":"abc"}', '/id', 'abc'],
  [' { "a" : [ 1 , {"b":"]}"} ] , "id" : "abc" } ', '/id', 'abc'],
  ['{"value":{"sessionId":"abc"}}', '/value/sessionId', 'abc'],
  ['[{"id":"a"},{"id":"b"}]', '/1/id', 'b'],
  ['{"id":42,"x":1}', '/id', '42'],
  ['{"a/b":{"m~n":"abc"}}', '/a~1b/m~0n', 'abc'],
  ['{"":"abc"}', '/', 'abc'],
  ['{"\\u0069d":"a\\u00fc\\n"}', '/id', 'a\xc3\xbc\n'],
  ['{"id":"zürich"}', '/id', 'z\xc3\xbcrich'],
  ['{"kürzel":"abc"}', '/kürzel', 'abc'],
  ['{"id":"a\\"b\\\\"}', '/id', 'a"b\\'],
  ['{"id":"abc","long":"' + 'x'.repeat(9), '/id', 'abc'],
  ['{"id":"abc"', '/id', 'abc'],
];
for (const [json, pointer, id] of FOUND) {
  test(`${json} has ${JSON.stringify(id)} at ${pointer}`, () => {
    assert.equal(read(json, pointer), id);
  });
}

// prettier-ignore
const ABSENT: readonly (readonly [json: string, pointer: string])[] = [
  ['', '/id'],
  ['{}', '/id'],
  ['[]', '/0'],
  ['"id"', '/id'],
  ['{"id":{"id":"abc"}}', '/id'],
  ['{"id":null}', '/id'],
  ['{"id":true}', '/id'],
  ['{"id":"ab', '/id'],
  ['{"id":4', '/id'],
  ['{"a":"x', '/id'],
  ['{"a":[1,2', '/id'],
  ['{"a" "id":"abc"}', '/id'],
  ['{"a":,"id":"abc"}', '/id'],
  ['[{"id":"a"}]', '/1/id'],
  ['{"b":{"id":"abc"}}', '/id'],
  ['['.repeat(10_000), '/0/0'],
];
for (const [json, pointer] of ABSENT) {
  test(`${json.slice(0, 20)} has no id at ${pointer}`, () => {
    assert.equal(read(json, pointer), undefined);
  });
}

for (const text of ['', 'id', '/a~', '/a~2']) {
  test(`"${text}" is no pointer to an id`, () => assert.equal(parsePointer(text), undefined));
}

for (const name of ['"\\q"', '"\\qqqqqqqqqq"', '"\n\\n"', '"a"', '"\\u0061"', '"\\u006"']) {
  test(`a longest body of names ${JSON.stringify(name)} delays nobody`, () => {
    const names = `${name}:1,`.repeat(Math.floor((MAX_BODY_BYTES - 20) / (name.length + 3)));
    const step = (): void => assert.equal(read(`{${names}"session":"abc"}`, '/session'), 'abc');
    step();
    assert.ok(Math.min(cpuMsOf(step), cpuMsOf(step), cpuMsOf(step)) < 15);
  });
}

/** What `JSON.parse` finds there. */
function expected(value: unknown, [part, ...rest]: readonly string[]): string | undefined {
  if (part === undefined) {
    if (typeof value === 'number') return JSON.stringify(value);
    return typeof value === 'string' ? Buffer.from(value, 'utf8').toString('latin1') : undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value) && !/^(0|[1-9]\d*)$/.test(part)) return undefined;
  return Object.hasOwn(value, part)
    ? expected((value as Record<string, unknown>)[part], rest)
    : undefined;
}

test('in any document it finds what a parser finds, and in its beginning that or nothing', () => {
  const key = fc.constantFrom('id', 'a', '0', '1', 'ü', '');
  const scalar = fc.oneof(
    fc.constantFrom('abc', 'a"b', '\\', '{', 'ü', ']'),
    fc.integer(),
    fc.constantFrom(null, true, 1.5, -0.25),
  );
  const { document } = fc.letrec((tie) => ({
    document: fc.oneof(
      { maxDepth: 3 },
      fc.oneof({ arbitrary: scalar, weight: 1 }),
      fc.array(tie('document'), { maxLength: 3 }),
      fc.dictionary(key, tie('document'), { maxKeys: 4 }),
    ),
  }));
  const parts = fc.array(key, { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(document, parts, fc.nat(), fc.boolean(), (value, pointer, cut, isSpaced) => {
      const json = Buffer.from(JSON.stringify(value, null, isSpaced ? 1 : 0), 'utf8').toString(
        'latin1',
      );
      const id = readJsonId(json, pointer);
      assert.equal(id, expected(value, pointer));
      const fromBeginning = readJsonId(json.slice(0, cut % (json.length + 1)), pointer);
      assert.ok(fromBeginning === undefined || fromBeginning === id);
      assert.ok(id === undefined || mayHoldJsonId(`{}\n${json}{`, pointer));
      const others = [pointer.slice(-1), pointer, ['id']];
      const each = others.flatMap((other) => readJsonId(json, other) ?? []);
      assert.deepEqual(readJsonIds(json, others), each);
    }),
    { numRuns: 5_000 },
  );
});
