import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BodyReader, BROKEN_BODY, type Framing } from '../../src/http/body-reader.ts';
import { cuts } from './parsing.ts';
import { TRAILERS } from './support.ts';

interface Read {
  readonly body: string;
  /** Bytes after the body. */
  readonly rest: string;
  readonly isComplete: boolean;
  readonly isBroken: boolean;
}

function read(
  reader: BodyReader,
  pieces: readonly string[],
  options: { framing: Framing; length?: number; decodes?: boolean },
): Read {
  let body = '';
  let rest = '';
  reader.begin(options.framing, options.length ?? 0);
  reader.decodes = options.decodes ?? false;
  const sink = {
    onBodyBytes: (bytes: Buffer, start: number, end: number): void => {
      assert.ok(end > start, 'nothing is handed on that is not there');
      body += bytes.toString('latin1', start, end);
    },
  };
  for (const piece of pieces) {
    const bytes = Buffer.from(`<<${piece}>>`, 'latin1');
    if (reader.isComplete) {
      rest += piece;
      continue;
    }
    const end = reader.read(bytes, 2, bytes.length - 2, sink);
    if (end === BROKEN_BODY) return { body, rest, isComplete: false, isBroken: true };
    rest += bytes.toString('latin1', end, bytes.length - 2);
  }
  return { body, rest, isComplete: reader.isComplete, isBroken: false };
}

const CHUNKS = '3;x\r\nabc\r\n2\r\nde\r\n0\r\n';

describe('a body', () => {
  interface Row {
    readonly name: string;
    readonly text: string;
    readonly body: string;
    readonly framing: Framing;
    readonly length?: number;
    readonly decodes?: boolean;
  }
  const rows: readonly Row[] = [
    { name: 'of known length', text: 'abcde', body: 'abcde', framing: 'length', length: 5 },
    {
      name: 'of known length, decoded',
      text: 'abc',
      body: 'abc',
      framing: 'length',
      length: 3,
      decodes: true,
    },
    { name: 'in chunks', text: `${CHUNKS}\r\n`, body: `${CHUNKS}\r\n`, framing: 'chunked' },
    {
      name: 'in chunks, decoded',
      text: `${CHUNKS}\r\n`,
      body: 'abcde',
      framing: 'chunked',
      decodes: true,
    },
    {
      name: 'in chunks with trailers',
      text: `${CHUNKS}X-A: 1\r\nHost: a\r\nMcp-Session-Id: b\r\nX-B:2\r\n\r\n`,
      body: `${CHUNKS}X-A: 1\r\nX-B: 2\r\n\r\n`,
      framing: 'chunked',
    },
    {
      name: 'in chunks with trailers, decoded',
      text: `${CHUNKS}X-A: 1\r\n\r\n`,
      body: 'abcde',
      framing: 'chunked',
      decodes: true,
    },
    { name: 'in no chunk but the last', text: '0\r\n\r\n', body: '0\r\n\r\n', framing: 'chunked' },
    {
      name: 'in no chunk but the last, decoded',
      text: '0\r\n\r\n',
      body: '',
      framing: 'chunked',
      decodes: true,
    },
  ];
  for (const { name, text, body, ...options } of rows) {
    test(`${name} is read for every split, without the bytes after it`, () => {
      const reader = new BodyReader(TRAILERS);
      for (const pieces of cuts(text)) {
        const expected = { body, rest: '', isComplete: true, isBroken: false };
        assert.deepEqual(read(reader, pieces, options), expected, JSON.stringify(pieces));
      }
      for (const pieces of cuts(`${text}next`))
        assert.equal(read(reader, pieces, options).rest, 'next');
      const { isComplete } = read(reader, [text.slice(0, -1)], options);
      assert.equal(isComplete, false);
    });
  }

  test('without framing is complete immediately', () => {
    const reader = new BodyReader(TRAILERS);
    reader.begin('length', 0);
    assert.equal(reader.isComplete, true);
    reader.begin('none', 9);
    assert.equal(reader.isComplete, true);
    assert.equal(reader.read(Buffer.from('abc'), 1, 3, { onBodyBytes: () => assert.fail() }), 1);
  });

  test('until the connection closes is never complete by itself', () => {
    const reader = new BodyReader(TRAILERS);
    const expected = { body: 'abcdef', rest: '', isComplete: false, isBroken: false };
    assert.deepEqual(read(reader, ['abc', '', 'def'], { framing: 'until-close' }), expected);
  });

  test('with Content-Length reports how many bytes remain', () => {
    const reader = new BodyReader(TRAILERS);
    reader.begin('length', 5);
    assert.equal(reader.left, 5);
    reader.read(Buffer.from('abc'), 0, 3, { onBodyBytes: () => undefined });
    assert.equal(reader.left, 2);
  });

  for (const [name, text] of [
    ['a chunk', '3\r\nabcX'],
    ['a size', 'zz\r\n'],
    ['a trailer', `${CHUNKS}X-A\r\n\r\n`],
    ['a trailer section that is too long', `${CHUNKS}X: ${'x'.repeat(65_536)}`],
  ] as const) {
    for (const decodes of [true, false]) {
      test(`with ${name} that is malformed is rejected${decodes ? ', decoded' : ''}`, () => {
        const reader = new BodyReader(TRAILERS);
        const pieces = text.length < 100 ? [...cuts(text)] : [[text]];
        for (const one of pieces) {
          assert.ok(read(reader, one, { framing: 'chunked', decodes }).isBroken);
        }
        // The next body on the connection is not affected.
        const next = read(reader, [`${CHUNKS}\r\n`], { framing: 'chunked' });
        assert.equal(next.body, `${CHUNKS}\r\n`);
      });
    }
  }

  test('may be decoded from its first bytes on, and the next one is not', () => {
    const reader = new BodyReader(TRAILERS);
    assert.equal(
      read(reader, [`${CHUNKS}\r\n`], { framing: 'chunked', decodes: true }).body,
      'abcde',
    );
    reader.begin('chunked', 0);
    assert.equal(reader.decodes, false);
  });
});

describe('a decoded body whose framing is kept from the next bytes on', () => {
  const FIRST = '3;x\r\nabc\r\n';
  const LAST = '0\r\nX-Sum: 1\r\n\r\n';
  const REST = `2;y\r\nde\r\n${LAST}`;

  interface Kept {
    /** Decoded, before the framing was kept. */
    readonly data: string;
    /** With the size of the chunk that it began in. */
    readonly framed: string;
    readonly rest: string;
  }

  /** Asks for it when the first `after` bytes of data have come. */
  function readKeeping(pieces: readonly string[], after: number): Kept {
    const reader = new BodyReader(TRAILERS);
    let [data, framed, rest, isKept] = ['', '', '', false];
    const sink = {
      onBodyBytes: (bytes: Buffer, start: number, end: number): void => {
        if (isKept) framed += bytes.toString('latin1', start, end);
        else data += bytes.toString('latin1', start, end);
        if (!isKept && data.length >= after) reader.keepFraming();
      },
      onFramingKept: (dataLeft: number): void => {
        assert.ok(!isKept, 'once');
        isKept = true;
        if (dataLeft > 0) framed = `${dataLeft}\r\n`;
      },
    };
    reader.begin('chunked', 0);
    reader.decodes = true;
    if (after === 0) reader.keepFraming();
    for (const piece of pieces) {
      const bytes = Buffer.from(piece, 'latin1');
      const end = reader.isComplete ? 0 : reader.read(bytes, 0, bytes.length, sink);
      assert.notEqual(end, BROKEN_BODY);
      rest += bytes.toString('latin1', end);
    }
    assert.ok(reader.isComplete);
    return { data, framed, rest };
  }

  for (const [claim, after, data, framed] of [
    ['at the beginning', 0, '', FIRST + REST],
    ['within the first chunk', 1, 'a', `2\r\nbc\r\n${REST}`],
    ['at the end of the first chunk', 3, 'abc', REST],
    ['within the last chunk', 4, 'abcd', `1\r\ne\r\n${LAST}`],
    ['at the end of the last chunk', 5, 'abcde', LAST],
  ] as const) {
    test(`passes what follows as it came, byte by byte: ${claim}`, () => {
      const bytes = Array.from(`${FIRST}${REST}`);
      assert.deepEqual(readKeeping(bytes, after), { data, framed, rest: '' });
    });

    test(`loses no byte and no trailer, however the body is cut: ${claim}`, () => {
      for (const pieces of cuts(`${FIRST}${REST}NEXT`)) {
        const kept = readKeeping(pieces, after);
        assert.ok(kept.data.length >= after);
        const decoded = read(new BodyReader(TRAILERS), [kept.framed], {
          ...{ framing: 'chunked', decodes: true },
        });
        assert.equal(kept.data + decoded.body, 'abcde');
        assert.ok(kept.framed.endsWith(LAST));
        assert.equal(kept.rest, 'NEXT');
      }
    });
  }

  test('data that came with the end of its chunk is not waited for', () => {
    const kept = readKeeping([FIRST + REST], 1);
    assert.deepEqual(kept, { data: 'abc', framed: REST, rest: '' });
  });

  test('it is too late for that behind the last chunk: the body is decoded to its end', () => {
    for (const [before, after] of [
      [`${FIRST}0`, '\r\n\r\n'],
      [`${FIRST}0\r\n`, 'X-Sum: 1\r\n\r\n'],
      [`${FIRST}0\r\nX-`, 'Sum: 1\r\n\r\n'],
    ] as const) {
      const reader = new BodyReader(TRAILERS);
      let data = '';
      const sink = {
        onBodyBytes: (bytes: Buffer, start: number, end: number): void => {
          data += bytes.toString('latin1', start, end);
        },
        onFramingKept: (): void => assert.fail(),
      };
      reader.begin('chunked', 0);
      reader.decodes = true;
      reader.read(Buffer.from(before), 0, before.length, sink);
      reader.keepFraming();
      assert.equal(
        reader.read(Buffer.from(`${after}NEXT`), 0, after.length + 4, sink),
        after.length,
      );
      assert.ok(reader.isComplete);
      assert.equal(data, 'abc');
    }
  });

  test('is not kept of a body of known length', () => {
    const reader = new BodyReader(TRAILERS);
    readKeeping([FIRST + REST], 1);
    const sink = { onBodyBytes: (): void => undefined, onFramingKept: (): void => assert.fail() };
    reader.begin('length', 3);
    reader.decodes = true;
    reader.keepFraming();
    assert.equal(reader.read(Buffer.from('abc'), 0, 3, sink), 3);
  });
});
