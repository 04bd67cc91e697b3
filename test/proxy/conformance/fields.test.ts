/** Field lines of a request (RFC 9110 §5, RFC 9112 §5): what reaches the app and what is rejected. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertReachesApp, assertRejected, type Field } from './support.ts';

const START = 'GET / HTTP/1.1\r\nHost: a\r\n';

/** The bytes with these codes, first and last included. */
const bytes = (from: number, to: number): string =>
  String.fromCharCode(...Array.from({ length: to - from + 1 }, (_, i) => from + i));

describe('a field reaches the app byte for byte:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, line: string, field: Field])[] = [
    ['a name in its own case', 'x-FoO: b', ['x-FoO', 'b']],
    ['a name with every token character', "!#$%&'*+-.^_`|~09Az: b", ["!#$%&'*+-.^_`|~09Az", 'b']],
    ['a name with an underscore', 'Content_Length: 99', ['Content_Length', '99']],
    ['another name with an underscore', 'Transfer_Encoding: chunked', ['Transfer_Encoding', 'chunked']],
    ['a name of one letter', 'X: b', ['X', 'b']],
    ['a name of 1,000 letters', `${'x'.repeat(1_000)}: b`, ['x'.repeat(1_000), 'b']],
    ['a value without a space before it', 'X-A:b', ['X-A', 'b']],
    ['a value with white space around it', 'X-A: \t b \t ', ['X-A', 'b']],
    ['no value', 'X-A:', ['X-A', '']],
    ['a value of only white space', 'X-A: \t ', ['X-A', '']],
    ['a value with colons', 'X-A: b: c:', ['X-A', 'b: c:']],
    ['a value with quotes, commas and backslashes', 'X-A: "b\\", c', ['X-A', '"b\\", c']],
    ['a value with white space in it', 'X-A: b  c\td', ['X-A', 'b  c\td']],
    ['a value with every visible character', `X-A: ${bytes(0x21, 0x7e)}`, ['X-A', bytes(0x21, 0x7e)]],
    ['a value of non-ASCII bytes (obs-text)', `X-A: ${bytes(0x80, 0xff)}`, ['X-A', bytes(0x80, 0xff)]],
    ['a value in UTF-8', 'X-A: \xe2\x82\xac', ['X-A', '\xe2\x82\xac']],
    ['a value that is no UTF-8', 'X-A: \xff\xfe', ['X-A', '\xff\xfe']],
    ['a value of 8,000 bytes', `X-A: ${'b'.repeat(8_000)}`, ['X-A', 'b'.repeat(8_000)]],
  ];
  for (const [claim, line, field] of rows) {
    test(claim, async (t) => {
      const { fields } = await assertReachesApp(t, `${START}${line}\r\n\r\n`);
      assert.deepEqual(
        fields.filter(([name]) => name === field[0]),
        [field],
      );
    });
  }

  test('several with one name, in their order', async (t) => {
    const lines = 'X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-A: 1\r\nCookie: c=1\r\nCookie: d=2\r\n';
    const { fields } = await assertReachesApp(t, `${START}${lines}\r\n`);
    assert.deepEqual(
      fields.filter(([name]) => /^(?:x-[ab]|cookie)$/i.test(name)).map((field) => field.join(' ')),
      ['X-A 1', 'X-B 2', 'x-a 3', 'X-A 1', 'Cookie c=1', 'Cookie d=2'],
    );
  });

  test('300 fields', async (t) => {
    const lines = Array.from({ length: 300 }, (_, i) => `X-${i}: ${i}\r\n`);
    const { fields } = await assertReachesApp(t, `${START}${lines.join('')}\r\n`);
    assert.deepEqual(
      fields.filter(([name]) => /^X-\d/.test(name)).map(([, value]) => value),
      lines.map((_, i) => String(i)),
    );
  });
});

describe('a field line is rejected (RFC 9112 §5.1, §5.2; RFC 9110 §5.5):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['folded by a space', 'X-A: b\r\n c\r\n'],
    ['folded by a tab', 'X-A: b\r\n\tc\r\n'],
    ['folded to an empty line', 'X-A: b\r\n \r\n'],
    ['folded before its value', 'X-A:\r\n b\r\n'],
    ['folded, with a field in the folded part', 'X-A: b\r\n Content-Length: 5\r\n'],
    ['a space before its name', ' X-A: b\r\n'],
    ['a space before the colon', 'X-A : b\r\n'],
    ['a tab before the colon', 'X-A\t: b\r\n'],
    ['a space before the colon of a length', 'Content-Length : 5\r\n'],
    ['a space before the colon of Host', 'Host : a\r\n'],
    ['no colon', 'X-A\r\n'],
    ['no name', ': b\r\n'],
    ['no name and no value', ':\r\n'],
    ['a space in its name', 'X A: b\r\n'],
    ['a tab in its name', 'X\tA: b\r\n'],
    ['brackets in its name', 'X-A[]: b\r\n'],
    ['parentheses in its name', 'X(A): b\r\n'],
    ['a slash in its name', 'X/A: b\r\n'],
    ['an at sign in its name', 'X@A: b\r\n'],
    ['quotes around its name', '"X-A": b\r\n'],
    ['a NUL in its name', 'X\0A: b\r\n'],
    ['a control character in its name', 'X\x01A: b\r\n'],
    ['a DEL in its name', 'X\x7fA: b\r\n'],
    ['a non-ASCII byte in its name', 'X-\xe9: b\r\n'],
    ['a CR in its name', 'X\rA: b\r\n'],
    ['an LF in its name', 'X\nA: b\r\n'],
    ['a CR in its value', 'X-A: b\rc\r\n'],
    ['a CR and a field in its value', 'X-A: b\rContent-Length: 5\r\n'],
    ['a CR before its line end', 'X-A: b\r\r\n'],
    ['an LF for its line end', 'X-A: b\n'],
    ['an LF and another field', 'X-A: b\nContent-Length: 5\r\n'],
    ['a CR alone before the next', 'X-A: b\r\n\rX-B: c\r\n'],
  ];
  for (const [claim, lines] of rows) test(claim, (t) => assertRejected(t, `${START}${lines}\r\n`));

  const controls = Array.from(`${bytes(0x00, 0x08)}\x0b\x0c${bytes(0x0e, 0x1f)}\x7f`);
  for (const control of controls) {
    const code = control.charCodeAt(0).toString(16).padStart(2, '0');
    test(`the control character ${code} in its value`, (t) =>
      assertRejected(t, `${START}X-A: b${control}c\r\n\r\n`));
  }
});

describe('white space before the first field is rejected:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['a space', ' \r\nHost: a\r\n'],
    ['a space before the first name', ' Host: a\r\n'],
    ['a tab before the first name', '\tHost: a\r\n'],
  ];
  for (const [claim, lines] of rows) {
    test(claim, (t) => assertRejected(t, `GET / HTTP/1.1\r\n${lines}\r\n`));
  }
});

describe('an end of the fields other than CRLF is rejected:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['LF', `${START}\n`],
    ['CR CR LF', `${START}\r\r\n`],
    ['LF after an LF', 'GET / HTTP/1.1\r\nHost: a\n\n'],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertRejected(t, sent));
});
