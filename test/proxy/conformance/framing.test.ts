/** Where a request ends (RFC 9112 §6): one reading for the sidecar and the app, or none. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertPassed, assertRefused, startWire, statusOf } from './support.ts';

const START = 'POST / HTTP/1.1\r\nHost: a\r\n';
const CHUNKS = '5\r\nhello\r\n0\r\n\r\n';

describe('a body passes whole, and the next request is in step:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, body: string])[] = [
    ['of a length', `${START}Content-Length: 5\r\n\r\nhello`, 'hello'],
    ['of a length in other case', `${START}cOnTeNt-LeNgTh: 5\r\n\r\nhello`, 'hello'],
    ['of a length in white space', `${START}Content-Length: \t 5 \t\r\n\r\nhello`, 'hello'],
    ['of a length of 0', `${START}Content-Length: 0\r\n\r\n`, ''],
    ['without length and coding: none (§6.3)', `${START}\r\n`, ''],
    ['of GET', 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    ['of OPTIONS', 'OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    ['of DELETE, in chunks', `DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['that looks like a request', `${START}Content-Length: 28\r\n\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r`, 'GET /in HTTP/1.1\r\nHost: a\r\n\r'],
    ['of all bytes', `${START}Content-Length: 4\r\n\r\n\0\r\xff\x80`, '\0\r\xff\x80'],
    ['in chunks', `${START}Transfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, the coding in other case', `${START}transfer-encoding: Chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, the coding in upper case', `${START}Transfer-Encoding: CHUNKED\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, white space before the coding', `${START}Transfer-Encoding: \t chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, with a field that only looks like a length', `${START}Content_Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
  ];
  for (const [claim, sent, body] of rows) {
    test(claim, async (t) => assert.equal((await assertPassed(t, sent)).body, body));
  }
});

describe('a length is refused (§6.2, §6.3):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['none', 'Content-Length:'],
    ['white space', 'Content-Length: \t '],
    ['a word', 'Content-Length: abc'],
    ['a plus', 'Content-Length: +5'],
    ['a minus', 'Content-Length: -5'],
    ['a minus before 0', 'Content-Length: -0'],
    ['beyond all numbers, with a minus', 'Content-Length: -123456789123456789123456789'],
    ['hexadecimal', 'Content-Length: 0x5'],
    ['hexadecimal digits', 'Content-Length: 5a'],
    ['octal', 'Content-Length: 0o5'],
    ['a fraction', 'Content-Length: 5.0'],
    ['an exponent', 'Content-Length: 5e0'],
    ['an underscore', 'Content-Length: 1_0'],
    ['a space in it', 'Content-Length: 5 5'],
    ['quotes', 'Content-Length: "5"'],
    ['a digit that is none of ASCII', 'Content-Length: \xb5'],
    ['a vertical tab before it', 'Content-Length: \x0b5'],
    ['a NUL behind it', 'Content-Length: 5\0'],
    ['a parameter', 'Content-Length: 5;a=b'],
    ['a list', 'Content-Length: 5, 5'],
    ['a list without a space', 'Content-Length: 5,5'],
    ['a list of different ones', 'Content-Length: 5, 6'],
    ['a comma behind it', 'Content-Length: 5,'],
    ['a comma before it', 'Content-Length: ,5'],
    ['two', 'Content-Length: 5\r\nContent-Length: 6'],
    ['two, the other way round', 'Content-Length: 6\r\nContent-Length: 5'],
    ['the same twice', 'Content-Length: 5\r\nContent-Length: 5'],
    ['a second one in another case', 'Content-Length: 5\r\nX-A: b\r\ncontent-length: 0'],
    ['a second one that is empty', 'Content-Length: 5\r\nContent-Length:'],
    ['over 2^53', 'Content-Length: 9007199254740993'],
    ['over 2^63', 'Content-Length: 9223372036854775808'],
    ['that wraps round to 5 in 64 bits', 'Content-Length: 18446744073709551621'],
    ['of 20 digits', 'Content-Length: 99999999999999999999'],
    ['of 400 digits', `Content-Length: ${'9'.repeat(400)}`],
  ];
  for (const [claim, lines] of rows) {
    test(claim, (t) => assertRefused(t, `${START}${lines}\r\n\r\nhello`));
  }
});

test('a length with leading zeros is decimal for both sides, or refused', async (t) => {
  const wire = await startWire(t);
  const next = 'GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  const { messages } = await wire.exchange(`${START}Content-Length: 010\r\n\r\n0123456789${next}`);
  const statuses = messages.map(({ startLine }) => statusOf(startLine));
  const bodies = wire.app.requests.map(({ body }) => body);
  if (statuses[0] === 400) assert.deepEqual([statuses, bodies], [[400], []]);
  else
    assert.deepEqual(
      [statuses, bodies],
      [
        [200, 200],
        ['0123456789', ''],
      ],
    );
});

describe('a transfer coding is refused (§6.1):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['none', 'Transfer-Encoding:'],
    ['gzip', 'Transfer-Encoding: gzip'],
    ['gzip and chunked', 'Transfer-Encoding: gzip, chunked'],
    ['gzip and chunked in two fields', 'Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked'],
    ['chunked and gzip', 'Transfer-Encoding: chunked, gzip'],
    ['chunked twice', 'Transfer-Encoding: chunked, chunked'],
    ['chunked in two fields', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
    ['chunked and nothing', 'Transfer-Encoding: chunked\r\nTransfer-Encoding:'],
    ['identity', 'Transfer-Encoding: identity'],
    ['identity and chunked', 'Transfer-Encoding: identity, chunked'],
    ['chunked and identity', 'Transfer-Encoding: chunked, identity'],
    ['an unknown one', 'Transfer-Encoding: nonsense'],
    ['one that ends like chunked', 'Transfer-Encoding: xchunked'],
    ['one that begins like chunked', 'Transfer-Encoding: chunkedx'],
    ['one that is cut', 'Transfer-Encoding: chunke'],
    ['chunked with a parameter', 'Transfer-Encoding: chunked;q=1'],
    ['chunked in quotes', 'Transfer-Encoding: "chunked"'],
    ['a space in chunked', 'Transfer-Encoding: chun ked'],
    ['a comma before chunked', 'Transfer-Encoding: , chunked'],
    ['a comma behind chunked', 'Transfer-Encoding: chunked,'],
    ['a vertical tab before chunked', 'Transfer-Encoding: \x0bchunked'],
    ['a form feed before chunked', 'Transfer-Encoding: \x0cchunked'],
    ['a NUL behind chunked', 'Transfer-Encoding: chunked\0'],
    ['a no-break space before chunked', 'Transfer-Encoding: \xa0chunked'],
    ['a letter that only looks like one of chunked', 'Transfer-Encoding: chun\xe2\x84\xaaed'],
    ['chunked behind a fold', 'Transfer-Encoding:\r\n chunked'],
    ['chunked behind a space before the colon', 'Transfer-Encoding : chunked'],
    ['chunked with a length (§6.3)', 'Transfer-Encoding: chunked\r\nContent-Length: 5'],
    ['a length with chunked', 'Content-Length: 5\r\nTransfer-Encoding: chunked'],
    ['a length with chunked in other case', 'content-LengtH: 5\r\nTransFer-Encoding: CHUNKED'],
    ['a length of 0 with chunked', 'Content-Length: 0\r\nTransfer-Encoding: chunked'],
    ['a length with identity', 'Content-Length: 5\r\nTransfer-Encoding: identity'],
    ['a length with a coding that is none', 'Content-Length: 5\r\nTransfer-Encoding: xchunked'],
  ];
  // For a coding that is unknown 501 says the same (RFC 9112 §6.1).
  for (const [claim, lines] of rows) {
    test(claim, (t) => assertRefused(t, `${START}${lines}\r\n\r\n${CHUNKS}`, [400, 501]));
  }

  test('any in HTTP/1.0', (t) =>
    assertRefused(t, `POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`));

  test('any in HTTP/1.0, with a length and a connection that is kept', (t) =>
    assertRefused(
      t,
      `POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`,
    ));
});
