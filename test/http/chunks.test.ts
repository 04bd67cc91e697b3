import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ChunkScanner, NOT_CHUNKED } from '../../src/http/chunks.ts';
import { cuts } from './parsing.ts';

interface Scanned {
  readonly data: string;
  /** Where the body ends, in bytes of all pieces. Undefined if it does not end. */
  readonly end: number | undefined;
  readonly ending: 'done' | 'trailers' | 'malformed' | 'more';
}

function scan(pieces: readonly string[]): Scanned {
  const scanner = new ChunkScanner();
  let data = '';
  let before = 0;
  for (const piece of pieces) {
    const bytes = Buffer.from(piece, 'latin1');
    const end = scanner.scan(bytes, 0, bytes.length, (start, dataEnd) => {
      data += bytes.toString('latin1', start, dataEnd);
    });
    if (end === NOT_CHUNKED) return { data, end: undefined, ending: 'malformed' };
    if (scanner.isDone) return { data, end: before + end, ending: 'done' };
    if (scanner.isInTrailers) return { data, end: before + end, ending: 'trailers' };
    assert.equal(end, bytes.length);
    before += bytes.length;
  }
  return { data, end: undefined, ending: 'more' };
}

describe('a chunked body', () => {
  const rows: readonly (readonly [name: string, body: string, data: string])[] = [
    ['nothing but the last chunk', '0\r\n\r\n', ''],
    ['a last chunk of many zeros', '0000000000000000\r\n\r\n', ''],
    ['one chunk', '3\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['several chunks', '3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n', 'abcde'],
    [
      'sizes in either case',
      'a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n',
      '0123456789'.repeat(2),
    ],
    ['sizes with zeros', '003\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['data that looks like chunks', '7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n', '0\r\n\r\n0\r'],
    [
      'every byte',
      `100\r\n${String.fromCharCode(...Array(256).keys())}\r\n0\r\n\r\n`,
      String.fromCharCode(...Array(256).keys()),
    ],
    ['an extension', '3;a\r\nabc\r\n0;b\r\n\r\n', 'abc'],
    ['an extension with a value', '3;a=b;c=d;e\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['an extension with a quoted value', '3;a="b ;\\" c";d\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['an empty quoted value', '3;a=""\r\nabc\r\n0\r\n\r\n', 'abc'],
    [
      'extensions of as many bytes as allowed',
      `3;${'a'.repeat(4_096)}\r\nabc\r\n0;${'a'.repeat(4_096)}\r\n\r\n`,
      'abc',
    ],
  ];
  for (const [name, body, data] of rows) {
    test(`of ${name} ends at the right byte, for every split`, () => {
      for (const pieces of body.length < 1_000 ? cuts(body) : [[body], Array.from(body)]) {
        assert.deepEqual(scan(pieces), { data, end: body.length, ending: 'done' });
      }
      assert.deepEqual(scan([`${body}GET / HTTP/1.1\r\n`]), {
        data,
        end: body.length,
        ending: 'done',
      });
      assert.equal(scan([body.slice(0, -1)]).ending, 'more');
    });
  }

  test('with trailers stops after its last chunk, for every split', () => {
    const chunks = '3\r\nabc\r\n0;a\r\n';
    for (const pieces of cuts(`${chunks}X: y\r\n\r\n`)) {
      assert.deepEqual(scan(pieces), { data: 'abc', end: chunks.length, ending: 'trailers' });
    }
  });

  test('may be as large as 2^48 bytes', () => {
    assert.equal(scan(['1000000000000\r\nabc']).ending, 'more');
  });

  test('has a limit for the extensions of each chunk', () => {
    const chunk = `1;${'a;'.repeat(2_000)}a\r\nx\r\n`;
    assert.equal(scan([chunk.repeat(10)]).ending, 'more');
    assert.equal(scan([`1;${'a;'.repeat(5_000)}a\r\nx\r\n`]).ending, 'malformed');
  });

  test('may follow another on its connection, whatever its result', () => {
    const scanner = new ChunkScanner();
    for (const body of [
      '3;a\r\nabc\r\n0\r\n\r\n',
      '1\r\na\r\n0\r\nX: y',
      '2\r\na',
      'zz',
      '1;a="',
    ]) {
      scanner.reset();
      assert.deepEqual([scanner.isDone, scanner.isInTrailers], [false, false]);
      const before = Buffer.from(body);
      scanner.scan(before, 0, before.length);
      scanner.reset();
      const bytes = Buffer.from('1\r\na\r\n0\r\n\r\n');
      assert.equal(scanner.scan(bytes, 0, bytes.length), bytes.length);
      assert.equal(scanner.isDone, true);
    }
  });

  test('of any data is read the same for every split', () => {
    const data = fc.string({
      unit: fc.constantFrom('a', '\r', '\n', '0\r\n\r\n', '\xff'),
      minLength: 1,
      maxLength: 30,
    });
    const cutAt = fc.array(fc.nat({ max: 400 }), { maxLength: 5 });
    fc.assert(
      fc.property(fc.array(data, { maxLength: 5 }), cutAt, (chunks, points) => {
        const body = `${chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')}0\r\n\r\n`;
        const at = [
          0,
          ...points.map((point) => point % body.length).sort((a, b) => a - b),
          body.length,
        ];
        const pieces = at.slice(1).map((end, i) => body.slice(at[i], end));
        assert.deepEqual(scan(pieces), { data: chunks.join(''), end: body.length, ending: 'done' });
      }),
    );
  });
});

describe('a malformed chunked body', () => {
  const rows: readonly (readonly [name: string, body: string])[] = [
    ['no size', '\r\nabc\r\n'],
    ['a size that is not a number', 'g\r\n'],
    ['a sign', '+3\r\n'],
    ['a minus', '-3\r\n'],
    ['0x', '0x3\r\n'],
    ['an underscore', '1_0\r\n'],
    ['a space first', ' 3\r\n'],
    ['a space after the size', '3 \r\n'],
    ['a space before an extension', '3 ;a\r\n'],
    ['a tab after the size', '3\t\r\n'],
    ['a NUL after the size', '3\0\r\n'],
    ['17 digits', '00000000000000003\r\n'],
    ['a size that is too large', 'FFFFFFFFFFFFFFFF\r\n'],
    ['a size of more than 2^48', '1000000000001\r\n'],
    ['a bare LF after the size', '3\nabc\r\n'],
    ['a bare CR after the size', '3\rabc\r\n'],
    ['a bare LF after the last chunk', '0\n\r\n'],
    ['a semicolon and nothing', '3;\r\n'],
    ['two semicolons', '3;;a\r\n'],
    ['a space after the semicolon', '3; a\r\n'],
    ['a name that is not a token', '3;a(b\r\n'],
    ['an empty name', '3;=b\r\n'],
    ['an empty value', '3;a=\r\n'],
    ['a value that is not a token', '3;a=b c\r\n'],
    ['spaces around the equals sign', '3;a = b\r\n'],
    ['a bare LF in a name', '3;a\nb\r\n'],
    ['a bare LF in a value', '3;a=b\nc\r\n'],
    ['a bare CR in an extension', '3;a\rb\r\n'],
    ['a line end in quotes', '3;a="\r\n"\r\n'],
    ['a control character in quotes', '3;a="\x01"\r\n'],
    ['a quoted line feed', '3;a="\\\n"\r\n'],
    ['a byte after quotes', '3;a="b"c\r\n'],
    ['extensions without end', `3;${'a'.repeat(4_098)}\r\n`],
    ['quotes without end', `3;a="${'b'.repeat(4_098)}"\r\n`],
    ['values without end', `3;${'a=b;'.repeat(1)}a=${'b'.repeat(4_098)}\r\n`],
    ['data that is too long', '3\r\nabcd\r\n'],
    ['data that is too short', '3\r\nab\r\n0\r\n\r\n'],
    ['a bare LF after data', '3\r\nabc\n0\r\n\r\n'],
    ['a bare CR after data', '3\r\nabc\r0\r\n\r\n'],
    ['no line end after data', '3\r\nabc0\r\n\r\n'],
    ['a bare CR at the very end', '0\r\n\r!'],
  ];
  for (const [name, body] of rows) {
    test(`with ${name} is rejected, for every split`, () => {
      for (const pieces of body.length < 1_000 ? cuts(body) : [[body], Array.from(body)]) {
        assert.equal(scan(pieces).ending, 'malformed');
      }
    });
  }
});
