/** Where a request ends (RFC 9112 §6): the sidecar and the app agree, or the sidecar rejects the request. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertReachesApp, assertRejected, startRawSidecar, statusOf } from './support.ts';

const START = 'POST / HTTP/1.1\r\nHost: a\r\n';
const CHUNKS = '5\r\nhello\r\n0\r\n\r\n';

describe('a body reaches the app complete, and the next request follows it:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, body: string])[] = [
    ['with Content-Length', `${START}Content-Length: 5\r\n\r\nhello`, 'hello'],
    ['with Content-Length in another case', `${START}cOnTeNt-LeNgTh: 5\r\n\r\nhello`, 'hello'],
    ['with white space around the length', `${START}Content-Length: \t 5 \t\r\n\r\nhello`, 'hello'],
    ['of a length of 0', `${START}Content-Length: 0\r\n\r\n`, ''],
    ['without length and coding: no body (§6.3)', `${START}\r\n`, ''],
    ['of GET', 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    ['of OPTIONS', 'OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    ['of DELETE, in chunks', `DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['that looks like a request', `${START}Content-Length: 28\r\n\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r`, 'GET /in HTTP/1.1\r\nHost: a\r\n\r'],
    ['with control and non-ASCII bytes', `${START}Content-Length: 4\r\n\r\n\0\r\xff\x80`, '\0\r\xff\x80'],
    ['in chunks', `${START}Transfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, the coding in another case', `${START}transfer-encoding: Chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, the coding in upper case', `${START}Transfer-Encoding: CHUNKED\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, white space before the coding', `${START}Transfer-Encoding: \t chunked\r\n\r\n${CHUNKS}`, 'hello'],
    ['in chunks, with a field that only resembles a length', `${START}Content_Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'hello'],
  ];
  for (const [claim, sent, body] of rows) {
    test(claim, async (t) => assert.equal((await assertReachesApp(t, sent)).body, body));
  }
});

describe('a Content-Length is rejected (§6.2, §6.3):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['empty', 'Content-Length:'],
    ['white space', 'Content-Length: \t '],
    ['a word', 'Content-Length: abc'],
    ['a plus', 'Content-Length: +5'],
    ['a minus', 'Content-Length: -5'],
    ['a minus before 0', 'Content-Length: -0'],
    ['a large number with a minus', 'Content-Length: -123456789123456789123456789'],
    ['hexadecimal', 'Content-Length: 0x5'],
    ['hexadecimal digits', 'Content-Length: 5a'],
    ['octal', 'Content-Length: 0o5'],
    ['a fraction', 'Content-Length: 5.0'],
    ['an exponent', 'Content-Length: 5e0'],
    ['an underscore', 'Content-Length: 1_0'],
    ['a space in it', 'Content-Length: 5 5'],
    ['quotes', 'Content-Length: "5"'],
    ['a non-ASCII digit', 'Content-Length: \xb5'],
    ['a vertical tab before it', 'Content-Length: \x0b5'],
    ['a NUL after it', 'Content-Length: 5\0'],
    ['a parameter', 'Content-Length: 5;a=b'],
    ['a list', 'Content-Length: 5, 5'],
    ['a list without a space', 'Content-Length: 5,5'],
    ['a list of different ones', 'Content-Length: 5, 6'],
    ['a comma after it', 'Content-Length: 5,'],
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
    test(claim, (t) => assertRejected(t, `${START}${lines}\r\n\r\nhello`));
  }
});

test('a length with leading zeros is decimal for the sidecar and the app, or is rejected', async (t) => {
  const sidecar = await startRawSidecar(t);
  const next = 'GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  const { messages } = await sidecar.responsesTo(
    `${START}Content-Length: 010\r\n\r\n0123456789${next}`,
  );
  const statuses = messages.map(({ startLine }) => statusOf(startLine));
  const bodies = sidecar.app.requests.map(({ body }) => body);
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

describe('a transfer coding is rejected (§6.1):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string])[] = [
    ['empty', 'Transfer-Encoding:'],
    ['gzip', 'Transfer-Encoding: gzip'],
    ['gzip and chunked', 'Transfer-Encoding: gzip, chunked'],
    ['gzip and chunked in two fields', 'Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked'],
    ['chunked and gzip', 'Transfer-Encoding: chunked, gzip'],
    ['chunked twice', 'Transfer-Encoding: chunked, chunked'],
    ['chunked in two fields', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
    ['chunked and an empty second field', 'Transfer-Encoding: chunked\r\nTransfer-Encoding:'],
    ['identity', 'Transfer-Encoding: identity'],
    ['identity and chunked', 'Transfer-Encoding: identity, chunked'],
    ['chunked and identity', 'Transfer-Encoding: chunked, identity'],
    ['an unknown one', 'Transfer-Encoding: nonsense'],
    ['one that ends like chunked', 'Transfer-Encoding: xchunked'],
    ['one that begins like chunked', 'Transfer-Encoding: chunkedx'],
    ['one that is cut off', 'Transfer-Encoding: chunke'],
    ['chunked with a parameter', 'Transfer-Encoding: chunked;q=1'],
    ['chunked in quotes', 'Transfer-Encoding: "chunked"'],
    ['a space in chunked', 'Transfer-Encoding: chun ked'],
    ['a comma before chunked', 'Transfer-Encoding: , chunked'],
    ['a comma after chunked', 'Transfer-Encoding: chunked,'],
    ['a vertical tab before chunked', 'Transfer-Encoding: \x0bchunked'],
    ['a form feed before chunked', 'Transfer-Encoding: \x0cchunked'],
    ['a NUL after chunked', 'Transfer-Encoding: chunked\0'],
    ['a no-break space before chunked', 'Transfer-Encoding: \xa0chunked'],
    ['chunked with a look-alike letter', 'Transfer-Encoding: chun\xe2\x84\xaaed'],
    ['chunked after a fold', 'Transfer-Encoding:\r\n chunked'],
    ['chunked with a space before the colon', 'Transfer-Encoding : chunked'],
    ['chunked with a length (§6.3)', 'Transfer-Encoding: chunked\r\nContent-Length: 5'],
    ['a length with chunked', 'Content-Length: 5\r\nTransfer-Encoding: chunked'],
    ['a length with chunked in another case', 'content-LengtH: 5\r\nTransFer-Encoding: CHUNKED'],
    ['a length of 0 with chunked', 'Content-Length: 0\r\nTransfer-Encoding: chunked'],
    ['a length with identity', 'Content-Length: 5\r\nTransfer-Encoding: identity'],
    ['a length with an unknown coding', 'Content-Length: 5\r\nTransfer-Encoding: xchunked'],
  ];
  // For an unknown coding, 501 is allowed too (RFC 9112 §6.1).
  for (const [claim, lines] of rows) {
    test(claim, (t) => assertRejected(t, `${START}${lines}\r\n\r\n${CHUNKS}`, [400, 501]));
  }

  test('any in HTTP/1.0', (t) =>
    assertRejected(t, `POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`));

  test('any in HTTP/1.0, with a length and keep-alive', (t) =>
    assertRejected(
      t,
      `POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`,
    ));
});
