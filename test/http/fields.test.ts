import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  FIELD,
  FieldScan,
  INCOMPLETE,
  MALFORMED,
  parseConnection,
  parseContentLength,
  TOO_MANY_FIELDS,
  type FieldCode,
  type ScanRules,
} from '../../src/http/fields.ts';

const STRICT: ScanRules = { maxFields: 500, allowsBlankBeforeColon: false };
const LENIENT: ScanRules = { maxFields: 500, allowsBlankBeforeColon: true };

interface Scanned {
  readonly result: number;
  readonly fields: readonly (readonly [name: string, value: string, code: number | undefined])[];
}

function scan(text: string, rules = STRICT, from = 0, fieldScan = new FieldScan()): Scanned {
  const bytes = Buffer.from(text, 'latin1');
  const result = fieldScan.scan(bytes, from, bytes.length, rules);
  const fields = Array.from({ length: fieldScan.count }, (_, i) => {
    const name = bytes.toString('latin1', fieldScan.nameStart(i), fieldScan.nameEnd(i));
    const value = bytes.toString('latin1', fieldScan.valueStart(i), fieldScan.valueEnd(i));
    return [name, value, fieldScan.codes[i]] as const;
  });
  return { result, fields };
}

describe('a scan of field lines', () => {
  const rows: readonly (readonly [line: string, name: string, value: string])[] = [
    ['A: b', 'A', 'b'],
    ['A:b', 'A', 'b'],
    ['A:', 'A', ''],
    ['A: \t ', 'A', ''],
    ['A: \t b c\t', 'A', 'b c'],
    ['A: b:c: d', 'A', 'b:c: d'],
    ['A: \xe9\xff', 'A', '\xe9\xff'],
    ["!#$%&'*+-.^_`|~09azAZ: x", "!#$%&'*+-.^_`|~09azAZ", 'x'],
  ];
  for (const [line, name, value] of rows) {
    test(`finds name and value of ${JSON.stringify(line)}`, () => {
      const text = `${line}\r\n\r\n`;
      assert.deepEqual(scan(text), { result: text.length, fields: [[name, value, FIELD.other]] });
    });
  }

  test('is complete exactly after the empty line, at any start offset', () => {
    const fields = 'A: b\r\nC: d\r\n\r\n';
    for (const before of ['', 'GET / HTTP/1.1\r\n']) {
      const text = before + fields;
      for (let end = before.length; end < text.length; end += 1) {
        assert.equal(scan(text.slice(0, end), STRICT, before.length).result, INCOMPLETE, `${end}`);
      }
      assert.equal(scan(`${text}rest`, STRICT, before.length).result, text.length);
    }
  });

  test('accepts a head without fields', () => {
    assert.deepEqual(scan('\r\nrest'), { result: 2, fields: [] });
  });

  test('accepts fields up to the limit', () => {
    for (const maxFields of [1, 2, 31, 32, 33, 500]) {
      const text = (count: number): string => `${'A: b\r\n'.repeat(count)}\r\n`;
      const rules = { ...STRICT, maxFields };
      assert.equal(scan(text(maxFields), rules).fields.length, maxFields);
      assert.equal(scan(text(maxFields + 1), rules).result, TOO_MANY_FIELDS);
    }
  });

  test('may be reused, and keeps no state', () => {
    const again = new FieldScan();
    assert.equal(scan(`${'Host: a\r\n'.repeat(100)}\r\n`, STRICT, 0, again).fields.length, 100);
    assert.deepEqual(scan('A: b\r\n\r\n', STRICT, 0, again).fields, [['A', 'b', FIELD.other]]);
    assert.equal(scan('A : b\r\n\r\n', LENIENT, 0, again).result, 9);
    assert.equal(again.hasBlankBeforeColon, true);
    scan('A: b\r\n\r\n', LENIENT, 0, again);
    assert.equal(again.hasBlankBeforeColon, false);
  });

  test('of a response accepts a space before a colon, but not in a name or as a name', () => {
    for (const blank of [' ', '\t', ' \t ']) {
      const text = `A${blank}: b\r\n\r\n`;
      const expected = { result: text.length, fields: [['A', 'b', FIELD.other]] };
      assert.deepEqual(scan(text, LENIENT), expected);
      for (let end = 0; end < text.length; end += 1) {
        assert.equal(scan(text.slice(0, end), LENIENT).result, INCOMPLETE);
      }
    }
    for (const text of ['A b: c\r\n\r\n', ' : b\r\n\r\n', 'A: b\r\n : c\r\n\r\n', 'A \r\n\r\n']) {
      assert.equal(scan(text, LENIENT).result, MALFORMED, JSON.stringify(text));
    }
  });

  const KNOWN: readonly (readonly [name: string, code: FieldCode])[] = [
    ['te', FIELD.te],
    ['via', FIELD.via],
    ['host', FIELD.host],
    ['expect', FIELD.expect],
    ['upgrade', FIELD.upgrade],
    ['trailer', FIELD.trailer],
    ['connection', FIELD.connection],
    ['keep-alive', FIELD.keepAlive],
    ['content-length', FIELD.contentLength],
    ['x-forwarded-for', FIELD.forwardedFor],
    ['proxy-connection', FIELD.proxyConnection],
    ['transfer-encoding', FIELD.transferEncoding],
    ['x-forwarded-proto', FIELD.forwardedProto],
  ];
  test('recognizes every field that the engine acts on, in any case, and no other', () => {
    assert.equal(KNOWN.length + 1, Object.keys(FIELD).length);
    for (const [name, code] of KNOWN) {
      for (const spelt of [
        name,
        name.toUpperCase(),
        name.charAt(0).toUpperCase() + name.slice(1),
      ]) {
        assert.equal(scan(`${spelt}: x\r\n\r\n`).fields[0]?.[2], code, spelt);
      }
      for (const other of [`${name}x`, `x${name}`, name.slice(1), name.replace(/^./, 'z')]) {
        assert.equal(scan(`${other}: x\r\n\r\n`).fields[0]?.[2], FIELD.other, other);
      }
    }
    const long = 'x'.repeat(100);
    assert.equal(scan(`${long}: x\r\n\r\n`).fields[0]?.[2], FIELD.other);
  });
});

describe('a scan of malformed field lines', () => {
  const rows: readonly (readonly [name: string, text: string])[] = [
    ['no colon', 'A\r\n\r\n'],
    ['no name', ': a\r\n\r\n'],
    ['a space before the colon', 'A : b\r\n\r\n'],
    ['a tab before the colon', 'A\t: b\r\n\r\n'],
    ['a space in a name', 'A b: c\r\n\r\n'],
    ['a folded line', 'A: b\r\n c\r\n\r\n'],
    ['a line folded with a tab', 'A: b\r\n\tc\r\n\r\n'],
    ['a space first', ' A: b\r\n\r\n'],
    ['a non-ASCII byte in a name', 'A\xe9: b\r\n\r\n'],
    ['a control character in a name', 'A\x01: b\r\n\r\n'],
    ['quotes in a name', '"A": b\r\n\r\n'],
    ['NUL in a value', 'A: b\0c\r\n\r\n'],
    ['a control character in a value', 'A: b\x1fc\r\n\r\n'],
    ['DEL in a value', 'A: b\x7fc\r\n\r\n'],
    ['a bare CR in a value', 'A: b\rc\r\n\r\n'],
    ['two CR', 'A: b\r\r\n\r\n'],
    ['a bare LF', 'A: b\n\r\n'],
    ['a bare LF as the empty line', 'A: b\r\n\n'],
    ['a bare CR as the empty line', 'A: b\r\n\rA'],
  ];
  for (const [name, text] of rows) {
    test(`rejects ${name}, for every split`, () => {
      assert.equal(scan(text).result, MALFORMED);
      for (let end = 0; end < text.length; end += 1) {
        const { result } = scan(text.slice(0, end));
        assert.ok(result === INCOMPLETE || result === MALFORMED, `${end}`);
      }
    });
  }
});

describe('a Content-Length', () => {
  const rows: readonly (readonly [value: string, length: number])[] = [
    ['0', 0],
    ['5', 5],
    ['0005', 5],
    ['999999999999999', 999_999_999_999_999],
    ['1000000000000000', -1],
    ['', -1],
    ['+1', -1],
    ['-1', -1],
    ['1.0', -1],
    ['1e3', -1],
    ['0x1', -1],
    ['1_0', -1],
    ['1,1', -1],
    ['1 1', -1],
    ['a', -1],
    ['\xb2', -1],
    ['1\0', -1],
  ];
  for (const [value, length] of rows) {
    test(`of ${JSON.stringify(value)} is ${length === -1 ? 'invalid' : length}`, () => {
      assert.equal(parseContentLength(value), length);
    });
  }
});

describe('Connection', () => {
  const NONE = { close: false, keepAlive: false, upgrade: false, names: [] };
  const rows: readonly (readonly [value: string, options: object])[] = [
    ['', NONE],
    ['close', { ...NONE, close: true }],
    ['Close', { ...NONE, close: true }],
    ['keep-alive', { ...NONE, keepAlive: true }],
    ['Keep-Alive', { ...NONE, keepAlive: true }],
    ['KEEP-ALIVE', { ...NONE, keepAlive: true }],
    ['Upgrade', { ...NONE, upgrade: true }],
    ['keep-alive, Upgrade', { ...NONE, keepAlive: true, upgrade: true }],
    [' close ,\tX-A,, x-b,', { ...NONE, close: true, names: ['x-a', 'x-b'] }],
    ['closed', { ...NONE, names: ['closed'] }],
    // Members that are not tokens are ignored.
    ['x a, "close", close;q=1, x\xe9', NONE],
    ['x a, close', { ...NONE, close: true }],
  ];
  for (const [value, options] of rows) {
    test(`of ${JSON.stringify(value)} is a list of options and names`, () => {
      assert.deepEqual(parseConnection(value), options);
    });
  }
});
