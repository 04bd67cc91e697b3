import {
  ResponseParser,
  type MalformedResponse,
  type ResponseParserOptions,
} from '../../src/http/response-parser.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { passedFields } from '../../src/http/head-text.ts';
import { type ParsedResponseHead } from '../../src/http/response-head.ts';
import { partOf } from './part-of.ts';

function parserOf(options: Partial<ResponseParserOptions> = {}): ResponseParser {
  return new ResponseParser({ headBytes: 10_000, fields: 100, ...options });
}

/** Places a text inside a larger buffer. */
function parse(
  text: string,
  parser = parserOf(),
): ParsedResponseHead | MalformedResponse | undefined {
  const bytes = Buffer.from(`<<${text}>>`, 'latin1');
  const parsed = parser.parse(bytes, 2, bytes.length - 2);
  if (parsed === undefined || 'reason' in parsed) return parsed;
  assert.equal(parsed.end, 2 + parsed.head.text.length);
  return parsed.head;
}

function accepted(text: string): ParsedResponseHead {
  const head = parse(text);
  assert.ok(head && 'text' in head, JSON.stringify([text, head]));
  return head;
}

/** Parses the text byte by byte as it grows: undefined until there is a result. */
function drip(
  text: string,
  parser = parserOf(),
): ParsedResponseHead | MalformedResponse | undefined {
  for (let end = 0; end <= text.length; end += 1) {
    const result = parse(text.slice(0, end), parser);
    if (result !== undefined) return result;
  }
  return undefined;
}

const OK = 'HTTP/1.1 200 OK\r\n';

describe('an accepted response head', () => {
  const PLAIN: Partial<ParsedResponseHead> = {
    statusCode: 200,
    minorVersion: 1,
    rawHeaders: [],
    contentLength: undefined,
    isChunked: false,
    isPersistent: true,
    keepAlive: undefined,
    announcesTrailers: false,
    upgrade: undefined,
  };
  // prettier-ignore
  const rows: readonly (readonly [name: string, text: string, head: Partial<ParsedResponseHead>])[] = [
    ['no fields', `${OK}\r\n`, {}],
    ['no reason', 'HTTP/1.1 200 \r\n\r\n', {}],
    ['no reason and no blank', 'HTTP/1.1 200\r\n\r\n', {}],
    ['a reason of any text', 'HTTP/1.1 404 \xe9 \t: x\r\n\r\n', { statusCode: 404 }],
    ['an unknown code', 'HTTP/1.1 999 X\r\n\r\n', { statusCode: 999 }],
    ['the lowest code', 'HTTP/1.1 100 X\r\n\r\n', { statusCode: 100 }],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\n\r\n', { minorVersion: 0, isPersistent: false }],
    ['HTTP/1.0 with keep-alive', 'HTTP/1.0 200 OK\r\nConnection: x-a, Keep-Alive\r\n\r\n', { minorVersion: 0 }],
    ['Connection: close', `${OK}Connection: close\r\n\r\n`, { isPersistent: false }],
    ['close in a list', `${OK}connection: X-Foo ,\tCLOSE\r\n\r\n`, { isPersistent: false }],
    ['close in a second line', `${OK}Connection: x-a\r\nConnection: close\r\n\r\n`, { isPersistent: false }],
    ['close beside keep-alive', `${OK}Connection: keep-alive, close\r\n\r\n`, { isPersistent: false }],
    ['Keep-Alive', `${OK}Keep-Alive: timeout=5\r\n\r\n`, { keepAlive: 'timeout=5' }],
    ['a length', `${OK}Content-Length: 5\r\n\r\n`, { contentLength: 5, rawHeaders: ['Content-Length', '5'] }],
    ['a length of 0', `${OK}content-length:0\r\n\r\n`, { contentLength: 0, rawHeaders: ['content-length', '0'] }],
    ['chunks', `${OK}Transfer-Encoding: chunked\r\n\r\n`, { isChunked: true }],
    ['chunks in upper case', `${OK}TRANSFER-ENCODING: CHUNKED\r\n\r\n`, { isChunked: true }],
    ['a length with a 304', 'HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n', { statusCode: 304, contentLength: 5, rawHeaders: ['Content-Length', '5'] }],
    ['a length with a 204, which is not passed on', 'HTTP/1.1 204 X\r\nX: y\r\nContent-Length: 0\r\n\r\n', { statusCode: 204, contentLength: 0, rawHeaders: ['X', 'y'] }],
    ['a length with a 103, which is not passed on', 'HTTP/1.1 103 X\r\nContent-Length: 0\r\nLink: a\r\n\r\n', { statusCode: 103, contentLength: 0, rawHeaders: ['Link', 'a'] }],
    ['Trailer', `${OK}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n`, { announcesTrailers: true, isChunked: true, rawHeaders: ['Trailer', 'X-Sum'] }],
    ['a switch', 'HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: a\r\nupgrade: b\r\n\r\n', { statusCode: 101, upgrade: 'a, b' }],
    ['Upgrade that Connection does not name', `${OK}Upgrade: a\r\n\r\n`, { upgrade: undefined }],
    ['an empty Upgrade', 'HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade:\r\n\r\n', { statusCode: 101, upgrade: undefined }],
    ['a space before a colon, which is removed', `${OK}X-A : b\r\nX-C\t : d\r\n\r\n`, { rawHeaders: ['X-A', 'b', 'X-C', 'd'] }],
    ['names and values unchanged', `${OK}X-Empty:\r\nx-EMPTY: \t \r\nX-Latin: \xe9\xff\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n`, { rawHeaders: ['X-Empty', '', 'x-EMPTY', '', 'X-Latin', '\xe9\xff', 'Set-Cookie', 'a', 'set-cookie', 'b'] }],
  ];
  for (const [name, text, head] of rows) {
    test(`has ${name}, in one piece or byte by byte`, () => {
      const expected = { ...PLAIN, ...head };
      for (const read of [parse(text), drip(text)]) {
        assert.deepEqual(partOf(read, expected), expected);
      }
      assert.equal(parse(text.slice(0, -1)), undefined, 'it is not complete before its last byte');
      assert.deepEqual(parse(`${text}rest`), parse(text), 'what follows is not its own');
    });
  }
});

describe('a rejected response head', () => {
  const LINE_REASON = 'the status line is not one of HTTP/1.1 or HTTP/1.0';
  const FIELD_REASON = 'a field line is malformed, or there are too many';
  const LENGTH_REASON = 'Content-Length is not one number';
  const CODING_REASON = 'Transfer-Encoding is not just chunked';
  const BOTH_REASON = 'Transfer-Encoding beside Content-Length';
  // prettier-ignore
  const rows: readonly (readonly [name: string, text: string, reason: string])[] = [
    ['another version', 'HTTP/2.0 200 OK\r\n\r\n', LINE_REASON],
    ['HTTP/1.2', 'HTTP/1.2 200 OK\r\n\r\n', LINE_REASON],
    ['HTTP/0.9', '<html></html>\r\n\r\n', LINE_REASON],
    ['lower case', 'http/1.1 200 OK\r\n\r\n', LINE_REASON],
    ['another protocol', 'SSH-2.0-x\r\n', LINE_REASON],
    ['ICY', 'ICY 200 OK\r\n\r\n', LINE_REASON],
    ['an empty line first', `\r\n${OK}\r\n`, LINE_REASON],
    ['a space first', ` ${OK}\r\n`, LINE_REASON],
    ['two spaces before the code', 'HTTP/1.1  200 OK\r\n\r\n', LINE_REASON],
    ['a code of two digits', 'HTTP/1.1 20 OK\r\n\r\n', LINE_REASON],
    ['a code of four digits', 'HTTP/1.1 2000 OK\r\n\r\n', LINE_REASON],
    ['a code that is not a number', 'HTTP/1.1 2x0 OK\r\n\r\n', LINE_REASON],
    ['a code below 100', 'HTTP/1.1 099 OK\r\n\r\n', LINE_REASON],
    ['a tab after the code', 'HTTP/1.1 200\tOK\r\n\r\n', LINE_REASON],
    ['a bare CR in the reason', 'HTTP/1.1 200 O\rK\r\n\r\n', LINE_REASON],
    ['a control character in the reason', 'HTTP/1.1 200 O\0K\r\n\r\n', LINE_REASON],
    ['a bare LF after the reason', 'HTTP/1.1 200 OK\n\r\n', LINE_REASON],
    ['a bare LF after the code', 'HTTP/1.1 200\n\r\n', LINE_REASON],
    ['a bare CR after the code', 'HTTP/1.1 200\rX', LINE_REASON],
    ['a field without a colon', `${OK}X\r\n\r\n`, FIELD_REASON],
    ['a field without a name', `${OK}: a\r\n\r\n`, FIELD_REASON],
    ['a space for a name', `${OK} : a\r\n\r\n`, FIELD_REASON],
    ['a space in a name', `${OK}X A: b\r\n\r\n`, FIELD_REASON],
    ['a folded line', `${OK}X: a\r\n b\r\n\r\n`, FIELD_REASON],
    ['a control character in a value', `${OK}X: \x1f\r\n\r\n`, FIELD_REASON],
    ['a bare LF', `${OK}X: a\nY: b\r\n\r\n`, FIELD_REASON],
    ['a bare LF as the empty line', `${OK}X: a\r\n\n`, FIELD_REASON],
    ['a space before the colon of a length', `${OK}Content-Length : 3\r\n\r\n`, FIELD_REASON],
    ['a space before the colon of a coding', `${OK}Transfer-Encoding\t: chunked\r\n\r\n`, FIELD_REASON],
    ['a space before the colon of Connection', `${OK}Connection : close\r\n\r\n`, FIELD_REASON],
    ['a space before the colon of Upgrade', `${OK}Upgrade : a\r\n\r\n`, FIELD_REASON],
    ['a space before the colon of Keep-Alive', `${OK}Keep-Alive : a\r\n\r\n`, FIELD_REASON],
    ['two lengths', `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`, LENGTH_REASON],
    ['two equal lengths', `${OK}Content-Length: 1\r\ncontent-length: 1\r\n\r\n`, LENGTH_REASON],
    ['a list of lengths', `${OK}Content-Length: 1, 1\r\n\r\n`, LENGTH_REASON],
    ['an empty length', `${OK}Content-Length:\r\n\r\n`, LENGTH_REASON],
    ['a length with a sign', `${OK}Content-Length: +1\r\n\r\n`, LENGTH_REASON],
    ['a length of 16 digits', `${OK}Content-Length: 1000000000000000\r\n\r\n`, LENGTH_REASON],
    ['a malformed length of a 204', 'HTTP/1.1 204 X\r\nContent-Length: x\r\n\r\n', LENGTH_REASON],
    ['gzip, chunked', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`, CODING_REASON],
    ['identity', `${OK}Transfer-Encoding: identity\r\n\r\n`, CODING_REASON],
    ['an empty coding', `${OK}Transfer-Encoding:\r\n\r\n`, CODING_REASON],
    ['chunked twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`, CODING_REASON],
    ['chunked with a tab after it', `${OK}Transfer-Encoding: chunked \t\r\n\r\n`, CODING_REASON],
    ['a length and then chunks', `${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`, BOTH_REASON],
    ['chunks and then a length', `${OK}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n`, BOTH_REASON],
    ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', 'Transfer-Encoding in a response of HTTP/1.0'],
  ];
  for (const [name, text, reason] of rows) {
    test(`has ${name}, in one piece or byte by byte`, () => {
      assert.deepEqual(parse(text), { reason });
      assert.deepEqual(drip(text), { reason });
    });
  }
});

describe('the limits of a response head', () => {
  const TOO_LONG = { reason: 'the head is longer than the limit' };

  test('allow a head up to the limit, and not a byte longer', () => {
    for (const fields of ['A: b\r\n'.repeat(50), `A: ${'b'.repeat(500)}\r\n`, '']) {
      const text = `HTTP/1.1 200 ${fields === '' ? 'x'.repeat(500) : 'OK'}\r\n${fields}\r\n`;
      for (const read of [parse, drip]) {
        assert.ok('text' in (read(text, parserOf({ headBytes: text.length })) ?? {}));
        assert.deepEqual(read(text, parserOf({ headBytes: text.length - 1 })), TOO_LONG);
      }
    }
  });

  test('reject an endless head', () => {
    const parser = parserOf({ headBytes: 1_000, fields: 500 });
    const endless = [`HTTP/1.1 200 ${'x'.repeat(1_000)}`, `${OK}A: ${'b'.repeat(1_000)}`];
    for (const text of [...endless, `${OK}${'A: b\r\n'.repeat(170)}`]) {
      assert.deepEqual(parse(text, parser), TOO_LONG);
    }
  });

  test('allow fields up to the limit, and not one more', () => {
    for (const fields of [1, 32, 33, 100]) {
      const text = (count: number): string => `${OK}${'A: b\r\n'.repeat(count)}\r\n`;
      assert.ok('text' in (parse(text(fields), parserOf({ fields })) ?? {}));
      assert.ok('reason' in (parse(text(fields + 1), parserOf({ fields })) ?? {}));
    }
  });
});

const HOP_BY_HOP = ['Connection', 'Keep-Alive', 'Proxy-Connection', 'TE', 'Upgrade'];

describe('the part of a response head that is passed on', () => {
  const fieldsOf = (...pairs: readonly string[]): string => {
    let text = '';
    for (let i = 0; i < pairs.length; i += 2)
      text += `${pairs[i] ?? ''}: ${pairs[i + 1] ?? ''}\r\n`;
    return text;
  };
  /** As pairs and as text, which must be equal. */
  function passed(...pairs: readonly string[]): readonly string[] {
    const head = accepted(`${OK}${fieldsOf(...pairs)}\r\n`);
    assert.equal(passedFields(head), fieldsOf(...head.rawHeaders));
    return head.rawHeaders;
  }

  test('is every field in order and case, including repeated and unusual ones', () => {
    const raw = ['X-Two', '1', 'x-two', '2', 'X-Empty', '', 'X-Umlaut', '\xfc', 'Expect', 'x'];
    assert.deepEqual(passed(...raw), raw);
  });

  test('is the unchanged text, without the spaces before colons', () => {
    const fields = 'X-A:b\r\nx-C :\td \r\nX-E  \t:  f\r\nX-G:  h\r\n';
    const expected = 'X-A:b\r\nx-C:\td \r\nX-E:  f\r\nX-G:  h\r\n';
    assert.equal(passedFields(accepted(`${OK}${fields}\r\n`)), expected);
  });

  for (const name of [...HOP_BY_HOP, 'Transfer-Encoding']) {
    test(`is not ${name}, in any case`, () => {
      const value = name === 'Transfer-Encoding' ? 'chunked' : 'x';
      for (const spelt of [name, name.toLowerCase(), name.toUpperCase()]) {
        const kept = passed('X-A', '1', spelt, value, 'X-B', '2');
        assert.deepEqual(kept, ['X-A', '1', 'X-B', '2']);
      }
    });
  }

  // prettier-ignore
  const named: readonly (readonly [claim: string, raw: readonly string[], kept: readonly string[]])[] = [
    ['is not what Connection names', ['Connection', 'X-A', 'x-a', '1', 'X-B', '2'], ['X-B', '2']],
    ['is not what stood before Connection', ['x-a', '1', 'X-B', '2', 'Connection', 'X-A'], ['X-B', '2']],
    ['is not what one of several Connections names', ['Connection', 'keep-alive', 'X-A', '1', 'connection', 'close ,\tx-a,', 'X-B', '2'], ['X-B', '2']],
    ['includes the essential fields of a response, even if Connection names them',
      ['Connection', 'content-length, content-type, set-cookie, date, location, vary, cache-control, mcp-session-id', 'Content-Length', '1', 'Content-Type', 'a/b', 'Set-Cookie', 'a', 'Date', 'x', 'Location', '/', 'Vary', '*', 'Cache-Control', 'no-store', 'Mcp-Session-Id', 'x'],
      ['Content-Length', '1', 'Content-Type', 'a/b', 'Set-Cookie', 'a', 'Date', 'x', 'Location', '/', 'Vary', '*', 'Cache-Control', 'no-store', 'Mcp-Session-Id', 'x']],
    ['includes the fields that the edge acts on, even if Connection names them', ['Connection', 'fly-replay, x-fly-affinity-a', 'Fly-Replay', 'instance=a', 'X-Fly-Affinity-A', '1'], ['Fly-Replay', 'instance=a', 'X-Fly-Affinity-A', '1']],
  ];
  for (const [claim, raw, kept] of named) {
    test(claim, () => assert.deepEqual(passed(...raw), kept));
  }

  test('is not what Connection names, even with a space before its colon', () => {
    const head = accepted(`${OK}Connection: x-a\r\nX-B : 1\r\nX-A : 2\r\nX-C: 3\r\n\r\n`);
    assert.equal(passedFields(head), 'X-B: 1\r\nX-C: 3\r\n');
    assert.deepEqual(head.rawHeaders, ['X-B', '1', 'X-C', '3']);
  });

  test('is exactly the fields that are neither hop-by-hop nor named by Connection, for any input', () => {
    const name = fc.constantFrom(...HOP_BY_HOP, 'x-a', 'X-A', 'X-B', 'x-c', 'Date', 'a');
    const value = fc.constantFrom('', 'x-a', 'X-B, date', 'close,a');
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 10 }), (sent) => {
        const options = sent
          .filter(([key]) => key.toLowerCase() === 'connection')
          .flatMap(([, text]) => text.split(/, ?/));
        const gone = new Set([...HOP_BY_HOP, ...options].map((text) => text.toLowerCase()));
        gone.delete('date');
        const expected = sent.filter(([key]) => !gone.has(key.toLowerCase())).flat();
        assert.deepEqual(passed(...sent.flat()), expected);
      }),
    );
  });
});

test('a parser keeps no state between two heads', () => {
  const parser = parserOf();
  const texts = [
    `${OK}Content-Length: 5\r\nConnection: close, X-A\r\nX-A : b\r\n\r\n`,
    `${OK}X-A: c\r\n\r\n`,
    'HTTP/1.0 404 No\r\n\r\n',
    'HTTP/1.1 20x\r\n\r\n',
  ];
  for (const text of [...texts, ...texts]) assert.deepEqual(parse(text, parser), parse(text));
});
