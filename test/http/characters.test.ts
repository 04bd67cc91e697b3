import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEX, isText, LOWER, TARGET, TOKEN, VALUE } from '../../src/http/head-text.ts';

const BYTES = Array.from({ length: 256 }, (_, code) => code);
const characterOf = (code: number): string => String.fromCharCode(code);
const membersOf = (table: Uint8Array): string =>
  BYTES.filter((code) => table[code] === 1)
    .map(characterOf)
    .join('');

test('a token is of tchar (RFC 9110 §5.6.2)', () => {
  assert.equal(
    membersOf(TOKEN),
    "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~",
  );
});

test('a field value is of HTAB, SP, VCHAR and obs-text (RFC 9110 §5.5)', () => {
  for (const code of BYTES) {
    const isAllowed = code === 0x09 || (code >= 0x20 && code <= 0x7e) || code >= 0x80;
    assert.equal(VALUE[code], isAllowed ? 1 : 0, `${code}`);
  }
});

test('a target has no space, no control character and no fragment (RFC 9112 §3.2)', () => {
  for (const code of BYTES) {
    const isAllowed = code > 0x20 && code !== 0x7f && characterOf(code) !== '#';
    assert.equal(TARGET[code], isAllowed ? 1 : 0, `${code}`);
  }
});

test('a hexadecimal digit has its value, in either case, and no other character has one', () => {
  for (const code of BYTES) {
    const isDigit = /^[0-9a-fA-F]$/.test(characterOf(code));
    assert.equal(HEX[code], isDigit ? parseInt(characterOf(code), 16) : -1, `${code}`);
  }
});

test('lower case affects only ASCII letters', () => {
  for (const code of BYTES) {
    const isLetter = /^[A-Z]$/.test(characterOf(code));
    assert.equal(LOWER[code], isLetter ? characterOf(code).toLowerCase().charCodeAt(0) : code);
  }
});

test('a text is matched at its offset, in any ASCII case, and no look-alike', () => {
  const host = Buffer.from('host');
  for (const [bytes, at, isThere] of [
    ['host', 0, true],
    ['x: HoSt', 3, true],
    ['hos', 0, false],
    ['hosts', 0, true],
    ['h\xefst', 0, false],
    // These differ from letters by the case bit of ASCII.
    ['H/ST', 0, false],
    ['\x08ost', 0, false],
  ] as const) {
    assert.equal(isText(Buffer.from(bytes, 'latin1'), at, host), isThere, JSON.stringify(bytes));
  }
});
