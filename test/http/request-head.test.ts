import {
  type MalformedRequest,
  type MalformedStatus,
  isHostValue,
  isOriginForm,
  type ParsedRequestHead,
} from '../../src/http/request-head.ts';
import { RequestParser, type RequestParserOptions } from '../../src/http/request-parser.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { passedFields } from '../../src/http/head-text.ts';
import { partOf } from './part-of.ts';

const OPTIONS: RequestParserOptions = {
  headBytes: 10_000,
  fields: 100,
  targetBytes: 5_000,
  protectedNames: new Set(['mcp-session-id', 'x-room']),
};

function parserOf(options: Partial<RequestParserOptions> = {}): RequestParser {
  return new RequestParser({ ...OPTIONS, ...options });
}

/** Places a text inside a larger buffer. */
function parse(
  text: string,
  parser = parserOf(),
): ParsedRequestHead | MalformedRequest | undefined {
  const bytes = Buffer.from(`<<${text}>>`, 'latin1');
  const parsed = parser.parse(bytes, 2, bytes.length - 2);
  if (parsed === undefined || 'status' in parsed) return parsed;
  const lead = /^(?:\r\n)*/.exec(text)?.[0].length ?? 0;
  assert.equal(parsed.end, 2 + lead + parsed.head.text.length);
  return parsed.head;
}

function accepted(text: string, parser = parserOf()): ParsedRequestHead {
  const head = parse(text, parser);
  assert.ok(head && 'text' in head, JSON.stringify([text, head]));
  return head;
}

/** Parses the text byte by byte as it grows: undefined until there is a result. */
function drip(text: string, parser = parserOf()): ParsedRequestHead | MalformedRequest | undefined {
  for (let end = 0; end <= text.length; end += 1) {
    const result = parse(text.slice(0, end), parser);
    if (result !== undefined) return result;
  }
  return undefined;
}

const LINE = 'GET / HTTP/1.1\r\n';
const HOST = 'Host: a\r\n';

describe('a head that is accepted', () => {
  const PLAIN: Partial<ParsedRequestHead> = {
    method: 'GET',
    target: '/',
    minorVersion: 1,
    contentLength: undefined,
    isChunked: false,
    wantsClose: false,
    upgrade: undefined,
    expectsContinue: false,
    host: 'a',
    authority: undefined,
    hasForwardedFor: false,
    hasForwardedProto: false,
    via: [],
  };
  // prettier-ignore
  const rows: readonly (readonly [name: string, text: string, head: Partial<ParsedRequestHead>])[] = [
    ['a plain GET', `${LINE}${HOST}\r\n`, { rawHeaders: ['Host', 'a'], cuts: [] }],
    ['an unknown method', `FOO-bar! / HTTP/1.1\r\n${HOST}\r\n`, { method: 'FOO-bar!' }],
    ['a method of 64 bytes', `${'M'.repeat(64)} / HTTP/1.1\r\n${HOST}\r\n`, { method: 'M'.repeat(64) }],
    ['a method in lower case', `get / HTTP/1.1\r\n${HOST}\r\n`, { method: 'get' }],
    ['one empty line before it', `\r\n${LINE}${HOST}\r\n`, {}],
    ['two empty lines before it', `\r\n\r\n${LINE}${HOST}\r\n`, {}],
    ['a target with a query', `GET /a/b?c=d&e HTTP/1.1\r\n${HOST}\r\n`, { target: '/a/b?c=d&e' }],
    ['a target of any bytes', `GET /\xe9\xff"<>\\^\`{|}!%zz HTTP/1.1\r\n${HOST}\r\n`, { target: '/\xe9\xff"<>\\^`{|}!%zz' }],
    ['a target of slashes', `GET //a//..//b HTTP/1.1\r\n${HOST}\r\n`, { target: '//a//..//b' }],
    ['OPTIONS *', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, { method: 'OPTIONS', target: '*' }],
    ['an absolute-form', `GET http://a/b?c HTTP/1.1\r\n${HOST}\r\n`, { target: '/b?c', authority: 'a' }],
    ['an absolute-form of https', `GET https://a/b HTTP/1.1\r\n${HOST}\r\n`, { target: '/b', authority: 'a' }],
    ['an absolute-form in upper case', `GET HTTP://A/b HTTP/1.1\r\n${HOST}\r\n`, { target: '/b', authority: 'A' }],
    ['an absolute-form without a path', `GET http://a HTTP/1.1\r\n${HOST}\r\n`, { target: '/', authority: 'a' }],
    ['an absolute-form with a query alone', `GET http://a?b HTTP/1.1\r\n${HOST}\r\n`, { target: '/?b', authority: 'a' }],
    ['an absolute-form of OPTIONS without a path', `OPTIONS http://a HTTP/1.1\r\n${HOST}\r\n`, { method: 'OPTIONS', target: '*', authority: 'a' }],
    ['an absolute-form of OPTIONS with one', `OPTIONS http://a/ HTTP/1.1\r\n${HOST}\r\n`, { method: 'OPTIONS', target: '/', authority: 'a' }],
    ['an absolute-form with the default port of http', `GET http://a:80/ HTTP/1.1\r\n${HOST}\r\n`, { authority: 'a:80' }],
    ['an absolute-form with the default port of https', `GET https://a:443/ HTTP/1.1\r\n${HOST}\r\n`, { authority: 'a:443' }],
    ['an absolute-form with an empty port', `GET http://a:/ HTTP/1.1\r\n${HOST}\r\n`, { authority: 'a:' }],
    ['a Host with the default port', `GET http://a/ HTTP/1.1\r\nHost: A:80\r\n\r\n`, { host: 'A:80', authority: 'a' }],
    ['an absolute-form with another port', `GET http://a:8080/ HTTP/1.1\r\nHost: a:8080\r\n\r\n`, { host: 'a:8080', authority: 'a:8080' }],
    ['an absolute-form in HTTP/1.0 without Host', 'GET http://b/c HTTP/1.0\r\n\r\n', { target: '/c', host: undefined, authority: 'b', minorVersion: 0, wantsClose: true }],
    ['HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n', { minorVersion: 0, host: undefined, wantsClose: true, rawHeaders: [] }],
    ['HTTP/1.0 with keep-alive', 'GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n', { minorVersion: 0, host: undefined, wantsClose: false }],
    ['Connection: close', `${LINE}${HOST}Connection: close\r\n\r\n`, { wantsClose: true, rawHeaders: ['Host', 'a'] }],
    ['close in a list', `${LINE}${HOST}Connection: keep-alive, x-a ,\tCLOSE\r\n\r\n`, { wantsClose: true }],
    ['close in a second line', `${LINE}${HOST}Connection: x-a\r\nconnection: close\r\n\r\n`, { wantsClose: true }],
    ['closed, which is not close', `${LINE}${HOST}Connection: closed\r\n\r\n`, { wantsClose: false }],
    ['a Content-Length', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\n`, { method: 'POST', contentLength: 5, rawHeaders: ['Host', 'a', 'Content-Length', '5'] }],
    ['a Content-Length of 0', `POST / HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`, { method: 'POST', contentLength: 0 }],
    ['a Content-Length of 15 digits', `POST / HTTP/1.1\r\n${HOST}Content-Length: 000000000000005\r\n\r\n`, { method: 'POST', contentLength: 5 }],
    ['chunks', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`, { method: 'POST', isChunked: true, rawHeaders: ['Host', 'a'] }],
    ['chunks in upper case', `POST / HTTP/1.1\r\n${HOST}TRANSFER-ENCODING: Chunked \r\n\r\n`, { method: 'POST', isChunked: true }],
    ['chunks of a GET', `${LINE}${HOST}Transfer-Encoding: chunked\r\n\r\n`, { isChunked: true }],
    ['Expect with a body', `POST / HTTP/1.1\r\n${HOST}Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n`, { method: 'POST', contentLength: 1, expectsContinue: true, rawHeaders: ['Host', 'a', 'Content-Length', '1'] }],
    ['Expect without a body', `POST / HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n`, { method: 'POST', contentLength: 0, expectsContinue: false }],
    ['Expect in HTTP/1.0', 'POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n', { method: 'POST', contentLength: 1, expectsContinue: false, minorVersion: 0, host: undefined, wantsClose: true }],
    ['an upgrade', `${LINE}${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, { upgrade: 'websocket', rawHeaders: ['Host', 'a'] }],
    ['an upgrade of several lines', `${LINE}${HOST}Connection: keep-alive, upgrade\r\nUpgrade: a/1\r\nupgrade: b, c\r\n\r\n`, { upgrade: 'a/1, b, c' }],
    ['an upgrade that Connection does not name', `${LINE}${HOST}Upgrade: websocket\r\n\r\n`, { upgrade: undefined, rawHeaders: ['Host', 'a'] }],
    ['an upgrade in HTTP/1.0', 'GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n', { upgrade: undefined, minorVersion: 0, host: undefined, wantsClose: true }],
    ['an upgrade with a body', `POST / HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n`, { method: 'POST', upgrade: undefined, contentLength: 1 }],
    ['an upgrade with chunks', `POST / HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n`, { method: 'POST', upgrade: undefined, isChunked: true }],
    ['an upgrade with an empty body', `POST / HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n`, { method: 'POST', upgrade: 'websocket', contentLength: 0 }],
    ['an upgrade only to HTTP/2', `${LINE}${HOST}Connection: upgrade\r\nUpgrade: h2c, HTTP/2.0, H2C\r\n\r\n`, { upgrade: undefined }],
    ['an upgrade to HTTP/2 and another protocol', `${LINE}${HOST}Connection: upgrade\r\nUpgrade: h2c,websocket , http/3\r\n\r\n`, { upgrade: 'websocket' }],
    ['an empty upgrade', `${LINE}${HOST}Connection: upgrade\r\nUpgrade:\r\n\r\n`, { upgrade: undefined }],
    ['X-Forwarded fields of the edge', `${LINE}${HOST}X-Forwarded-For:\r\nx-forwarded-proto: https\r\n\r\n`, { hasForwardedFor: true, hasForwardedProto: true }],
    ['Via, in order', `${LINE}${HOST}Via: 1.1 a\r\nX: y\r\nvia: 2 b, 1.1 c\r\n\r\n`, { via: ['1.1 a', '2 b, 1.1 c'] }],
    ['a Host with a port', `${LINE}Host: a.b-c.d:8080\r\n\r\n`, { host: 'a.b-c.d:8080' }],
    ['a Host of IPv6', `${LINE}Host: [::1]:80\r\n\r\n`, { host: '[::1]:80' }],
    ['names and values unchanged', `${LINE}${HOST}X-Empty:\r\nx-EMPTY: \t \r\nX-Latin: \xe9\xff\r\nX!#$%&'*+-.^_\`|~9: a  b\tc\t\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n`, { rawHeaders: ['Host', 'a', 'X-Empty', '', 'x-EMPTY', '', 'X-Latin', '\xe9\xff', "X!#$%&'*+-.^_`|~9", 'a  b\tc', 'Set-Cookie', 'a', 'set-cookie', 'b'] }],
  ];
  for (const [name, text, head] of rows) {
    test(`has ${name}, in one piece or byte by byte`, () => {
      const expected = { ...PLAIN, ...head };
      for (const read of [parse(text), drip(text)]) {
        assert.deepEqual(partOf(read, expected), expected);
      }
      assert.equal(parse(text.slice(0, -1)), undefined, 'it is not complete before its last byte');
      assert.deepEqual(parse(`${text}GET /next`), parse(text), 'what follows is not its own');
    });
  }

  test('has the text that came, from its request line to its empty line', () => {
    const text = `${LINE}Host:  a \r\nX-A: b\r\n\r\n`;
    const { text: own, fieldsStart, fieldsEnd } = accepted(`\r\n${text}rest`);
    assert.equal(own, text);
    assert.equal(own.slice(fieldsStart, fieldsEnd), 'Host:  a \r\nX-A: b\r\n');
  });
});

const LINE_REASON = 'the request line is not one of HTTP/1.1';

type Rejection = readonly [name: string, text: string, status: MalformedStatus, reason: string];

function testRejections(rows: readonly Rejection[]): void {
  for (const [name, text, status, reason] of rows) {
    test(`has ${name}, in one piece or byte by byte`, () => {
      assert.deepEqual(parse(text), { status, reason });
      assert.deepEqual(drip(text), { status, reason });
    });
  }
}

describe('a head that is rejected for its request line', () => {
  const VERSION_REASON = 'the version is neither HTTP/1.1 nor HTTP/1.0';
  const TARGET_REASON = 'the target is not in origin-form and not of this host';

  const line = (text: string): string => `${text}\r\n${HOST}\r\n`;
  // prettier-ignore
  const rows: readonly Rejection[] = [
    ['three empty lines before it', `\r\n\r\n\r\n${LINE}${HOST}\r\n`, 400, LINE_REASON],
    ['a bare CR before it', `\r${LINE}`, 400, LINE_REASON],
    ['a bare LF before it', `\n${LINE}`, 400, LINE_REASON],
    ['a space before it', ` ${LINE}`, 400, LINE_REASON],
    ['no method', line(' / HTTP/1.1'), 400, LINE_REASON],
    ['a method that is no token', line('G(T / HTTP/1.1'), 400, LINE_REASON],
    ['a method with a line break', line('GET\r\n / HTTP/1.1'), 400, LINE_REASON],
    ['a method with a non-ASCII byte', line('G\xcbT / HTTP/1.1'), 400, LINE_REASON],
    ['a method of 65 bytes', line(`${'M'.repeat(65)} / HTTP/1.1`), 400, LINE_REASON],
    ['a method without end', 'M'.repeat(65), 400, LINE_REASON],
    ['two spaces before the target', line('GET  / HTTP/1.1'), 400, LINE_REASON],
    ['a tab before the target', line('GET\t/ HTTP/1.1'), 400, LINE_REASON],
    ['no target', line('GET HTTP/1.1'), 400, LINE_REASON],
    ['a space in the target', line('GET /a b HTTP/1.1'), 400, LINE_REASON],
    ['a tab in the target', line('GET /a\tb HTTP/1.1'), 400, LINE_REASON],
    ['a fragment', line('GET /a#b HTTP/1.1'), 400, LINE_REASON],
    ['a NUL in the target', line('GET /a\0 HTTP/1.1'), 400, LINE_REASON],
    ['a DEL in the target', line('GET /a\x7f HTTP/1.1'), 400, LINE_REASON],
    ['a line break in the target', line('GET /a\r\nX: y HTTP/1.1'), 400, LINE_REASON],
    ['two spaces before the version', line('GET /  HTTP/1.1'), 400, LINE_REASON],
    ['a space after the version', line('GET / HTTP/1.1 '), 400, LINE_REASON],
    ['no version', line('GET /'), 400, LINE_REASON],
    ['a version in lower case', line('GET / http/1.1'), 400, LINE_REASON],
    ['another protocol', line('GET / HTCP/1.1'), 400, LINE_REASON],
    ['a version without a dot', line('GET / HTTP/11x'), 400, LINE_REASON],
    ['a version of three digits', line('GET / HTTP/1.10'), 400, LINE_REASON],
    ['a version that is no number', line('GET / HTTP/x.y'), 400, LINE_REASON],
    ['a bare LF after the version', `GET / HTTP/1.1\n${HOST}\r\n`, 400, LINE_REASON],
    ['a bare CR after the version', 'GET / HTTP/1.1\rX', 400, LINE_REASON],
    ['HTTP/0.9', line('GET / HTTP/0.9'), 505, VERSION_REASON],
    ['HTTP/1.2', line('GET / HTTP/1.2'), 505, VERSION_REASON],
    ['HTTP/2.0', line('GET / HTTP/2.0'), 505, VERSION_REASON],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, VERSION_REASON],
    ['HTTP/9.9', line('GET / HTTP/9.9'), 505, VERSION_REASON],

    ['CONNECT', line('CONNECT a:443 HTTP/1.1'), 501, 'CONNECT is not supported'],
    ['CONNECT of a path', line('CONNECT / HTTP/1.1'), 501, 'CONNECT is not supported'],
    ['* with GET', line('GET * HTTP/1.1'), 400, TARGET_REASON],
    ['** with OPTIONS', line('OPTIONS ** HTTP/1.1'), 400, TARGET_REASON],
    ['a target that is a name', line('GET a HTTP/1.1'), 400, TARGET_REASON],
    ['a target that is an authority', line('GET a:80 HTTP/1.1'), 400, TARGET_REASON],
    ['a target of another scheme', line('GET ftp://a/ HTTP/1.1'), 400, TARGET_REASON],
    ['an absolute-form without a host', line('GET http:///b HTTP/1.1'), 400, TARGET_REASON],
    ['an absolute-form with user info', line('GET http://b@a/ HTTP/1.1'), 400, TARGET_REASON],
    ['an absolute-form of another host', line('GET http://b/ HTTP/1.1'), 400, TARGET_REASON],
    ['an absolute-form of another port', line('GET http://a:8080/ HTTP/1.1'), 400, TARGET_REASON],
    ['the default port of the other scheme', line('GET https://a:80/ HTTP/1.1'), 400, TARGET_REASON],
    ['an absolute-form with a malformed host', line('GET http://a"b/ HTTP/1.1'), 400, TARGET_REASON],
  ];
  testRejections(rows);
});

describe('a head that is rejected for its fields', () => {
  const FIELD_REASON = 'a field line is malformed';
  const HOST_REASON = 'Host is malformed or there are two';
  const LENGTH_REASON = 'Content-Length is not one number';
  const CODING_REASON = 'Transfer-Encoding is not just chunked';
  const FRAMING_REASON = 'Transfer-Encoding beside Content-Length or in HTTP/1.0';
  const EXPECT_REASON = 'Expect asks for more than 100-continue';
  const CONNECTION_REASON = 'Connection names a field that belongs to the request';

  const withField = (text: string): string => `${LINE}${HOST}${text}\r\n\r\n`;
  // prettier-ignore
  const rows: readonly Rejection[] = [
    ['no Host', `${LINE}\r\n`, 400, 'Host is missing'],
    ['no Host in an absolute-form', 'GET http://a/ HTTP/1.1\r\n\r\n', 400, 'Host is missing'],
    ['an empty Host', `${LINE}Host:\r\n\r\n`, 400, HOST_REASON],
    ['two Host', `${LINE}${HOST}Host: b\r\n\r\n`, 400, HOST_REASON],
    ['two equal Host', `${LINE}${HOST}host: a\r\n\r\n`, 400, HOST_REASON],
    ['two Host in HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n', 400, HOST_REASON],
    ['an empty Host in HTTP/1.0', 'GET / HTTP/1.0\r\nHost:\r\n\r\n', 400, HOST_REASON],
    ['a Host with user info', `${LINE}Host: a@b\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a path', `${LINE}Host: a/b\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a space', `${LINE}Host: a b\r\n\r\n`, 400, HOST_REASON],
    ['a list of Hosts', `${LINE}Host: a,b\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a scheme', `${LINE}Host: http://a\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a port that is not a number', `${LINE}Host: a:b\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a port of six digits', `${LINE}Host: a:123456\r\n\r\n`, 400, HOST_REASON],
    ['a Host with two ports', `${LINE}Host: a:1:2\r\n\r\n`, 400, HOST_REASON],
    ['a Host that is a port alone', `${LINE}Host: :80\r\n\r\n`, 400, HOST_REASON],
    ['a Host of half an IPv6 address', `${LINE}Host: [::1\r\n\r\n`, 400, HOST_REASON],
    ['a Host with a non-ASCII byte', `${LINE}Host: \xe9\r\n\r\n`, 400, HOST_REASON],

    ['a field without a colon', withField('X-A'), 400, FIELD_REASON],
    ['a field without a name', withField(': a'), 400, FIELD_REASON],
    ['a space before a colon', withField('X-A : b'), 400, FIELD_REASON],
    ['a tab before a colon', withField('X-A\t: b'), 400, FIELD_REASON],
    ['a space before the colon of a length', withField('Content-Length : 1'), 400, FIELD_REASON],
    ['a space in a name', withField('X A: b'), 400, FIELD_REASON],
    ['a name with a non-ASCII byte', withField('X-\xe9: b'), 400, FIELD_REASON],
    ['a folded line', withField('X-A: b\r\n c'), 400, FIELD_REASON],
    ['a folded line first', `${LINE} ${HOST}\r\n`, 400, FIELD_REASON],
    ['a control character in a value', withField('X-A: \x01'), 400, FIELD_REASON],
    ['a NUL in a value', withField('X-A: a\0b'), 400, FIELD_REASON],
    ['a bare CR in a value', withField('X-A: a\rContent-Length: 1'), 400, FIELD_REASON],
    ['a bare LF', withField('X-A: b\nContent-Length: 1'), 400, FIELD_REASON],
    ['a bare LF as the empty line', `${LINE}${HOST}\n`, 400, FIELD_REASON],
    ['bare LFs throughout', 'GET / HTTP/1.1\nHost: a\n\n', 400, LINE_REASON],

    ['two lengths', withField('Content-Length: 1\r\nContent-Length: 2'), 400, LENGTH_REASON],
    ['two equal lengths', withField('Content-Length: 1\r\ncontent-length: 1'), 400, LENGTH_REASON],
    ['a list of lengths', withField('Content-Length: 1, 1'), 400, LENGTH_REASON],
    ['an empty length', withField('Content-Length:'), 400, LENGTH_REASON],
    ['a length with a sign', withField('Content-Length: +1'), 400, LENGTH_REASON],
    ['a negative length', withField('Content-Length: -1'), 400, LENGTH_REASON],
    ['a length in hexadecimal', withField('Content-Length: 0x1'), 400, LENGTH_REASON],
    ['a length with a fraction', withField('Content-Length: 1.0'), 400, LENGTH_REASON],
    ['a length of 16 digits', withField('Content-Length: 0000000000000001'), 400, LENGTH_REASON],
    ['gzip, chunked', withField('Transfer-Encoding: gzip, chunked'), 400, CODING_REASON],
    ['identity', withField('Transfer-Encoding: identity'), 400, CODING_REASON],
    ['an empty coding', withField('Transfer-Encoding:'), 400, CODING_REASON],
    ['chunked twice', withField('Transfer-Encoding: chunked\r\ntransfer-encoding: chunked'), 400, CODING_REASON],
    ['chunked, chunked', withField('Transfer-Encoding: chunked, chunked'), 400, CODING_REASON],
    ['xchunked', withField('Transfer-Encoding: xchunked'), 400, CODING_REASON],
    ['chunked with a parameter', withField('Transfer-Encoding: chunked;q=1'), 400, CODING_REASON],
    ['chunked in quotes', withField('Transfer-Encoding: "chunked"'), 400, CODING_REASON],
    ['chunked with a tab after it, which llhttp counts as part of the coding', withField('Transfer-Encoding: chunked\t'), 400, CODING_REASON],
    ['a length and then chunks', withField('Content-Length: 1\r\nTransfer-Encoding: chunked'), 400, FRAMING_REASON],
    ['chunks and then a length', withField('Transfer-Encoding: chunked\r\nContent-Length: 0'), 400, FRAMING_REASON],
    ['chunks in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n', 400, FRAMING_REASON],
    ['another expectation', withField('Expect: 200-ok'), 417, EXPECT_REASON],
    ['an empty expectation', withField('Expect:'), 417, EXPECT_REASON],
    ['two expectations', withField('Expect: 100-continue, 100-continue'), 417, EXPECT_REASON],

    ...['Host', 'Content-Length', 'Transfer-Encoding', 'Content-Type', 'Content-Encoding'].map(
      (name) => [`Connection that names ${name}`, withField(`Connection: ${name}`), 400, CONNECTION_REASON] as const,
    ),
    ...['Authorization', 'Cookie', 'Set-Cookie', 'Origin', 'Expect', 'Mcp-Session-Id', 'x-room'].map(
      (name) => [`Connection that names ${name}`, withField(`Connection: close, ${name.toUpperCase()}`), 400, CONNECTION_REASON] as const,
    ),
    ['Connection that names it in a second line', withField('Connection: close\r\nX: y\r\nConnection: cookie'), 400, CONNECTION_REASON],
  ];
  testRejections(rows);
});

describe('the limits of a head', () => {
  const TOO_LONG = { status: 431, reason: 'the head is longer than the limit' };
  const TOO_MANY = { status: 431, reason: 'the head has more fields than the limit' };
  const TARGET_TOO_LONG = { status: 414, reason: 'the target is longer than the limit' };

  for (const [name, fields] of [
    ['of many lines', 'A: b\r\n'.repeat(50)],
    ['of one long line', `A: ${'b'.repeat(500)}\r\n`],
    ['of one long name', `${'A'.repeat(500)}: b\r\n`],
  ] as const) {
    test(`allow a head ${name} up to the limit, and not a byte longer`, () => {
      const text = `${LINE}${HOST}${fields}\r\n`;
      for (const read of [parse, drip]) {
        assert.ok('text' in (read(text, parserOf({ headBytes: text.length })) ?? {}));
        const short = parserOf({ headBytes: text.length - 1 });
        assert.deepEqual(read(text, short), TOO_LONG);
      }
      const lead = `\r\n\r\n${text}`;
      const exact = parserOf({ headBytes: text.length });
      assert.ok('text' in (parse(lead, exact) ?? {}), 'empty lines before it do not count');
    });
  }

  test('reject an endless head', () => {
    const parser = parserOf({ headBytes: 1_000, targetBytes: 2_000, fields: 500 });
    for (const text of [
      `${LINE}A: ${'b'.repeat(1_000)}`,
      `${LINE}${'A: b\r\n'.repeat(165)}`,
      `${LINE}${'A'.repeat(1_000)}`,
      `GET /${'a'.repeat(1_000)} HTTP/1`,
    ]) {
      assert.deepEqual(parse(text, parser), TOO_LONG);
    }
  });

  test('allow fields up to the limit, and not one more', () => {
    const text = (count: number): string => `${LINE}${HOST}${'A: b\r\n'.repeat(count - 1)}\r\n`;
    for (const fields of [1, 2, 32, 33, 100]) {
      const parser = parserOf({ fields });
      assert.ok('text' in (parse(text(fields), parser) ?? {}));
      for (const read of [parse, drip]) assert.deepEqual(read(text(fields + 1), parser), TOO_MANY);
    }
  });

  test('allow a target up to the limit, and not a byte longer', () => {
    const parser = parserOf({ targetBytes: 100 });
    const text = (length: number): string =>
      `GET /${'a'.repeat(length - 1)} HTTP/1.1\r\n${HOST}\r\n`;
    assert.equal(accepted(text(100), parser).target.length, 100);
    for (const read of [parse, drip]) assert.deepEqual(read(text(101), parser), TARGET_TOO_LONG);
    assert.deepEqual(parse(text(101).slice(0, 105), parser), TARGET_TOO_LONG, 'without an end');
  });
});

describe('a parser', () => {
  test('keeps no state between two heads', () => {
    const parser = parserOf();
    const texts = [
      `POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close, X-A\r\nX-A: b\r\n\r\n`,
      `GET /b HTTP/1.1\r\nHost: b\r\n\r\n`,
      'GET /c HTTP/1.0\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: a b\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: b\r\n\r\n`,
    ];
    for (const text of [...texts, ...texts]) assert.deepEqual(parse(text, parser), parse(text));
  });
});

const HOP_BY_HOP = ['Connection', 'Keep-Alive', 'Proxy-Connection', 'TE', 'Upgrade'];

const fieldsOf = (...pairs: readonly string[]): string => {
  let text = '';
  for (let i = 0; i < pairs.length; i += 2) text += `${pairs[i] ?? ''}: ${pairs[i + 1] ?? ''}\r\n`;
  return text;
};

/** As pairs and as text, which must be equal. */
function passed(...pairs: readonly string[]): readonly string[] {
  const head = accepted(`${LINE}${HOST}${fieldsOf(...pairs)}\r\n`);
  assert.equal(passedFields(head), fieldsOf(...head.rawHeaders));
  return head.rawHeaders.slice(2);
}

describe('the part of a head that is passed on', () => {
  test('is every field in order and case, including repeated and unusual ones', () => {
    const raw = ['X-Two', '1', 'x-two', '2', 'X-Empty', '', 'X-Umlaut', '\xfc', 'Trailer', 'X-Sum'];
    assert.deepEqual(passed(...raw), raw);
  });

  for (const name of [...HOP_BY_HOP, 'Expect', 'Transfer-Encoding']) {
    test(`is not ${name}, in any case`, () => {
      const values: Record<string, string> = {
        Expect: '100-continue',
        'Transfer-Encoding': 'chunked',
      };
      for (const spelt of [name, name.toLowerCase(), name.toUpperCase()]) {
        const kept = passed('X-A', '1', spelt, values[name] ?? 'x', 'X-B', '2');
        assert.deepEqual(kept, ['X-A', '1', 'X-B', '2']);
      }
    });
  }

  const named: readonly (readonly [
    claim: string,
    raw: readonly string[],
    kept: readonly string[],
  ])[] = [
    ['is not what Connection names', ['Connection', 'X-A', 'x-a', '1', 'X-B', '2'], ['X-B', '2']],
    [
      'is not what stood before Connection',
      ['x-a', '1', 'X-B', '2', 'Connection', 'X-A'],
      ['X-B', '2'],
    ],
    [
      'is not what one of several Connections names, in a list with blanks',
      ['Connection', 'keep-alive', 'X-A', '1', 'connection', 'close ,\tx-a,', 'X-B', '2'],
      ['X-B', '2'],
    ],
    [
      'is not every line of a name',
      ['X-A', '1', 'X-B', '2', 'Connection', 'x-a', 'x-A', '3'],
      ['X-B', '2'],
    ],
    [
      'is what Connection names in a word that is no token',
      ['Connection', '"x-a", x a', 'x-a', '1'],
      ['x-a', '1'],
    ],
    ['is a part of no name', ['Connection', 'x-', 'x-a', '1', 'x', '2'], ['x-a', '1', 'x', '2']],
    [
      'includes the fields of the edge, even if Connection names them',
      [
        ...[
          'Connection',
          'Fly-Replay-Src, fly-client-ip, X-Forwarded-For, forwarded, via, x-fly-affinity-a',
        ],
        ...['fly-replay-src', 'instance=m1', 'Fly-Client-IP', '::1', 'X-Forwarded-For', '::1'],
        ...['Forwarded', 'for=a', 'Via', '2 fly.io', 'X-Fly-Affinity-A', '1'],
      ],
      [
        ...['fly-replay-src', 'instance=m1', 'Fly-Client-IP', '::1', 'X-Forwarded-For', '::1'],
        ...['Forwarded', 'for=a', 'Via', '2 fly.io', 'X-Fly-Affinity-A', '1'],
      ],
    ],
  ];
  for (const [claim, raw, kept] of named) test(claim, () => assert.deepEqual(passed(...raw), kept));
});

describe('the part of any head that is passed on', () => {
  test('has no new field and keeps the order, for any input', () => {
    const word = fc.constantFrom(
      ...HOP_BY_HOP,
      'x-a',
      'X-B',
      'x-c',
      'fly-replay-src',
      'close',
      'a',
    );
    const value = fc.oneof(
      word,
      fc.array(word, { maxLength: 3 }).map((words) => words.join(', ')),
    );
    const pairs = fc.array(fc.tuple(word, value), { maxLength: 12 });
    fc.assert(
      fc.property(pairs, (sent) => {
        const kept = passed(...sent.flat());
        let rest = sent.map((pair) => pair.join('\n'));
        for (let i = 0; i < kept.length; i += 2) {
          const at = rest.indexOf(kept.slice(i, i + 2).join('\n'));
          assert.ok(at >= 0);
          rest = rest.slice(at + 1);
        }
      }),
    );
  });

  test('is exactly the fields that are neither hop-by-hop nor named by Connection', () => {
    const name = fc.constantFrom(...HOP_BY_HOP, 'x-a', 'X-A', 'X-B', 'x-c', 'Via', 'a');
    const pairs = fc.array(fc.tuple(name, fc.constantFrom('', 'x-a', 'X-B, via', 'close,a')), {
      maxLength: 10,
    });
    fc.assert(
      fc.property(pairs, (sent) => {
        const isConnection = (text: string): boolean => text.toLowerCase() === 'connection';
        const options = sent
          .filter(([key]) => isConnection(key))
          .flatMap(([, text]) => text.split(/, ?/));
        const gone = new Set([...HOP_BY_HOP, ...options].map((text) => text.toLowerCase()));
        gone.delete('via');
        const expected = sent.filter(([key]) => !gone.has(key.toLowerCase())).flat();
        assert.deepEqual(passed(...sent.flat()), expected);
      }),
    );
  });
});

describe('the accepted values of a forwarded request', () => {
  test('for its host are those of Host', () => {
    for (const host of ['a', 'a:80', '[::1]', '[::1]:80', 'a.b', 'a_b', '1.2.3.4:5']) {
      assert.ok(isHostValue(host), host);
    }
    for (const host of [
      '',
      ' a',
      'a ',
      'a b',
      'a\r\nX: y',
      'a/b',
      'a@b',
      'a,b',
      'a:b',
      ':80',
      'a#b',
    ]) {
      assert.ok(!isHostValue(host), host);
    }
  });

  test('for its target are those of a request line', () => {
    for (const target of ['/', '*', '/a?b', '/\xe9', '/%00', '//a'])
      assert.ok(isOriginForm(target));
    for (const target of [
      '',
      'a',
      'http://a/',
      '/a b',
      '/a#b',
      '/a\r\nX: y',
      '/\x7f',
      '/\0',
      '**',
      '*/',
    ]) {
      assert.ok(!isOriginForm(target), target);
    }
  });
});
