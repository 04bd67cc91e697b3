import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { parseSessionId, parseTypedSessionId, sessionKeyOf } from '../src/session.ts';

function keyOf(text: string): string {
  const id = parseSessionId(text);
  assert.ok(id);
  return sessionKeyOf(id);
}

test('a key is the beginning of the SHA-256 of the bytes of an id', () => {
  const expected = createHash('sha256').update('zürich', 'utf8').digest('hex').slice(0, 32);
  assert.equal(keyOf('z\xc3\xbcrich'), expected);
});

test('an id with a space has one key, however the space is written', () => {
  assert.equal(keyOf('my room'), keyOf('my+room'));
});

test('ids that differ in anything else have different keys', () => {
  const keys = ['my room', 'my_room', 'myroom', 'my  room', 'my room ', 'My room'].map(keyOf);
  assert.equal(new Set(keys).size, keys.length);
});

test('a typed id is read as UTF-8', () => {
  assert.equal(parseTypedSessionId('zürich'), 'z\xc3\xbcrich');
});

for (const text of ['', 'a\nb', 'a\0b', 'a\x7fb', 'řeka', 'x'.repeat(32_769)]) {
  test(`${JSON.stringify(text.slice(0, 10))} is no session id`, () => {
    assert.equal(parseSessionId(text), undefined);
  });
}
