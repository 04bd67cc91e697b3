/** Invalid responses, and responses that two parsers may read differently. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cuts, parse, type ParseOptions } from './parsing.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;

const MALFORMED: readonly (readonly [name: string, response: string, options?: ParseOptions])[] = [
  [
    'Content-Length and Transfer-Encoding',
    `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    'the two the other way round',
    `${OK}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`,
  ],
  [
    'the two in a response to HEAD',
    `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n`,
    { method: 'HEAD' },
  ],
  ['two lengths', `${OK}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`],
  ['two equal lengths', `${OK}Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc`],
  ['a list of lengths', `${OK}Content-Length: 3, 3\r\n\r\nabc`],
  ['a length with a plus', `${OK}Content-Length: +3\r\n\r\nabc`],
  ['a negative length', `${OK}Content-Length: -3\r\n\r\nabc`],
  ['a length in hexadecimal', `${OK}Content-Length: 0x3\r\n\r\nabc`],
  ['a length with a fraction', `${OK}Content-Length: 3.0\r\n\r\nabc`],
  ['a length with an exponent', `${OK}Content-Length: 3e0\r\n\r\nabc`],
  ['a length with a space in it', `${OK}Content-Length: 1 0\r\n\r\n0123456789`],
  ['a length with an underscore', `${OK}Content-Length: 1_0\r\n\r\n0123456789`],
  ['a length of superscripts', `${OK}Content-Length: \xb3\r\n\r\nabc`],
  ['an empty length', `${OK}Content-Length:\r\n\r\n`],
  ['a length that is too large', `${OK}Content-Length: 99999999999999999999\r\n\r\n`],
  ['gzip, chunked', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ['chunked, gzip', `${OK}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`],
  ['chunked, identity', `${OK}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`],
  ['identity', `${OK}Transfer-Encoding: identity\r\n\r\nabc`],
  [
    'chunked twice',
    `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ['chunked twice in one line', `${OK}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`],
  [
    'identity and then chunked',
    `${OK}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ['a coding that only resembles chunked', `${OK}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
  ['chunked in quotes', `${OK}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`],
  ['chunked with a parameter', `${OK}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n`],
  ['an empty coding', `${OK}Transfer-Encoding:\r\n\r\nabc`],
  ['chunked with a vertical tab', `${OK}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`],
  ['chunked in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a space before the colon', `${OK}Content-Length : 3\r\n\r\nabc`],
  ['a space before the colon of Connection', `${OK}Connection : close\r\n\r\nabc`],
  ['a tab before the colon', `${OK}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n`],
  ['a folded line', `${OK}X-A: b\r\n Content-Length: 3\r\n\r\nabc`],
  ['a line folded with a tab', `${OK}X-A: b\r\n\tc\r\nContent-Length: 0\r\n\r\n`],
  ['a folded line at once', `${OK} X-A: b\r\nContent-Length: 0\r\n\r\n`],
  ['a name with a space in it', `${OK}X A: b\r\nContent-Length: 0\r\n\r\n`],
  ['a name in quotes', `${OK}"X-A": b\r\nContent-Length: 0\r\n\r\n`],
  ['a name with a non-ASCII byte', `${OK}X-\xe9: b\r\nContent-Length: 0\r\n\r\n`],
  ['a name with a NUL', `${OK}Content-Length\0: 3\r\n\r\nabc`],
  ['no name', `${OK}: b\r\nContent-Length: 0\r\n\r\n`],
  ['no colon', `${OK}X-A\r\nContent-Length: 0\r\n\r\n`],
  ['a NUL in a value', `${OK}X-A: a\0b\r\nContent-Length: 0\r\n\r\n`],
  ['a CR in a value', `${OK}X-A: a\rContent-Length: 3\r\nContent-Length: 0\r\n\r\n`],
  ['a CR before the line end', `${OK}X-A: a\r\r\nContent-Length: 0\r\n\r\n`],
  ['a control character in a value', `${OK}X-A: a\x1fb\r\nContent-Length: 0\r\n\r\n`],
  ['a DEL in a value', `${OK}X-A: a\x7fb\r\nContent-Length: 0\r\n\r\n`],
  ['a bare LF after the status line', 'HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n'],
  ['a bare LF after a field', `${OK}X-A: b\nContent-Length: 0\r\n\r\n`],
  ['a bare LF as the empty line', `${OK}Content-Length: 0\r\n\n`],
  ['bare LFs throughout', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'],
  ['another version', 'HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['HTTP/1.2', 'HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['HTTP/0.9', '<html></html>\r\n'],
  ['a version in lower case', 'http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['another protocol', 'SSH-2.0-OpenSSH_9.9\r\n'],
  ['ICY', 'ICY 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['an empty line first', `\r\n${OK}Content-Length: 0\r\n\r\n`],
  ['a space first', ` ${OK}Content-Length: 0\r\n\r\n`],
  ['a field first', `Content-Length: 0\r\n${OK}\r\n`],
  ['two spaces before the code', 'HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a code of two digits', 'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a code of four digits', 'HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a code that is not a number', 'HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a code below 100', 'HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a CR in the reason', 'HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n'],
  ['a NUL in the reason', 'HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n'],
  ['a chunk size with a sign', `${CHUNKED}+3\r\nabc\r\n0\r\n\r\n`],
  ['a negative chunk size', `${CHUNKED}-3\r\nabc\r\n0\r\n\r\n`],
  ['a chunk size with 0x', `${CHUNKED}0x3\r\nabc\r\n0\r\n\r\n`],
  ['a space before a chunk size', `${CHUNKED} 3\r\nabc\r\n0\r\n\r\n`],
  ['a space after a chunk size', `${CHUNKED}3 \r\nabc\r\n0\r\n\r\n`],
  ['a space before an extension', `${CHUNKED}3 ;a\r\nabc\r\n0\r\n\r\n`],
  ['a chunk size with an underscore', `${CHUNKED}1_0\r\nabc\r\n0\r\n\r\n`],
  ['no chunk size', `${CHUNKED}\r\nabc\r\n0\r\n\r\n`],
  ['a semicolon without an extension', `${CHUNKED}3;\r\nabc\r\n0\r\n\r\n`],
  ['an extension without a size', `${CHUNKED};a\r\nabc\r\n0\r\n\r\n`],
  ['a chunk size that is not a number', `${CHUNKED}g\r\nabc\r\n0\r\n\r\n`],
  ['a chunk size that is too large', `${CHUNKED}FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n`],
  ['a chunk size that wraps round to 3', `${CHUNKED}10000000000000003\r\nabc\r\n0\r\n\r\n`],
  ['a bare LF after a chunk size', `${CHUNKED}3\nabc\r\n0\r\n\r\n`],
  ['a bare CR after a chunk size', `${CHUNKED}3\rabc\r\n0\r\n\r\n`],
  ['a bare LF in an extension', `${CHUNKED}3;a\nabc\r\n0\r\n\r\n`],
  ['a CR in an extension', `${CHUNKED}3;a\rb\r\nabc\r\n0\r\n\r\n`],
  ['a NUL in an extension', `${CHUNKED}3;a\0\r\nabc\r\n0\r\n\r\n`],
  [
    'a line end in the quotes of an extension',
    `${CHUNKED}3;a="\r\n\r\nHTTP/1.1"\r\nabc\r\n0\r\n\r\n`,
  ],
  ['an extension without end', `${CHUNKED}3;${'a'.repeat(4097)}\r\nabc\r\n0\r\n\r\n`],
  ['a chunk longer than its size', `${CHUNKED}3\r\nabcd\r\n0\r\n\r\n`],
  ['a chunk shorter than its size', `${CHUNKED}3\r\nab\r\n0\r\n\r\n`],
  ['a bare LF after a chunk', `${CHUNKED}3\r\nabc\n0\r\n\r\n`],
  ['another byte in place of the CR after a chunk', `${CHUNKED}3\r\nabc!\n0\r\n\r\n`],
  ['another byte in place of the LF after a chunk', `${CHUNKED}3\r\nabc\r!0\r\n\r\n`],
  ['nothing after a chunk', `${CHUNKED}3\r\nabc0\r\n\r\n`],
  ['a bare LF after the last chunk', `${CHUNKED}0\n\r\n`],
  ['a bare LF after the trailers', `${CHUNKED}0\r\n\n`],
  ['a trailer with a space before the colon', `${CHUNKED}0\r\nX-A : b\r\n\r\n`],
  ['a folded trailer', `${CHUNKED}0\r\nX-A: b\r\n c\r\n\r\n`],
];

for (const [name, response, options] of MALFORMED) {
  test(`a response is rejected for every split: ${name}`, () => {
    for (const pieces of cuts(response)) {
      assert.equal(parse(pieces, options).ending, 'malformed', JSON.stringify(pieces));
    }
  });
}

test('framing fields among the trailers are dropped', () => {
  for (const field of ['Content-Length: 3', 'transfer-encoding: chunked']) {
    const { ending, framed } = parse([`${CHUNKED}3\r\nabc\r\n0\r\nX-A: b\r\n${field}\r\n\r\n`]);
    assert.deepEqual([ending, framed], ['complete', '3\r\nabc\r\n0\r\nX-A: b\r\n\r\n']);
  }
});

test('a space before the colon of a field without framing is removed (RFC 9112 §5.1)', () => {
  const { ending, rawHeaders } = parse([`${OK}X-A : b\r\nX-C\t : d\r\nContent-Length: 0\r\n\r\n`]);
  assert.equal(ending, 'complete');
  assert.deepEqual(rawHeaders, ['X-A', 'b', 'X-C', 'd', 'Content-Length', '0']);
});
