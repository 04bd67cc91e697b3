/** Chunked bodies, and the bytes that follow them (RFC 9112 §7.1). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertAborted, assertReachesApp } from './support.ts';

const START = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';

describe('the app receives the body of:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, chunks: string, body: string])[] = [
    ['one chunk', '5\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['several chunks', '5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n', 'hello world'],
    ['no chunk', '0\r\n\r\n', ''],
    ['a size in lower case', 'a\r\nhelloworld\r\n0\r\n\r\n', 'helloworld'],
    ['a size in upper case', 'A\r\nhelloworld\r\n0\r\n\r\n', 'helloworld'],
    ['a size with leading zeros', '005\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['a last chunk of several zeros', '5\r\nhello\r\n000\r\n\r\n', 'hello'],
    ['data that looks like the last chunk', '5\r\n0\r\n\r\n\r\n0\r\n\r\n', '0\r\n\r\n'],
    ['one chunk of 40,000 bytes', `9c40\r\n${'x'.repeat(40_000)}\r\n0\r\n\r\n`, 'x'.repeat(40_000)],
    ['1,000 chunks of one byte', `${'1\r\nx\r\n'.repeat(1_000)}0\r\n\r\n`, 'x'.repeat(1_000)],
    ['an extension (§7.1.1)', '5;a\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['an extension with a value', '5;a=b\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['an extension with a value in quotes', '5;a="b;c \\" d"\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['several extensions', '5;a;b=c;d="e"\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['an extension of the last chunk', '5\r\nhello\r\n0;a=b\r\n\r\n', 'hello'],
  ];
  for (const [claim, chunks, body] of rows) {
    test(claim, async (t) => assert.equal((await assertReachesApp(t, START + chunks)).body, body));
  }
});

describe('the sidecar aborts a request with:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, chunks: string])[] = [
    ['a size with 0x', '0x5\r\nhello\r\n0\r\n\r\n'],
    ['a size with a plus', '+5\r\nhello\r\n0\r\n\r\n'],
    ['a size with a minus', '-5\r\nhello\r\n0\r\n\r\n'],
    ['a last chunk with a plus', '5\r\nhello\r\n+0\r\n\r\n'],
    ['a space before a size', ' 5\r\nhello\r\n0\r\n\r\n'],
    ['a tab before a size', '\t5\r\nhello\r\n0\r\n\r\n'],
    ['a space after a size', '5 \r\nhello\r\n0\r\n\r\n'],
    ['a size with an underscore', '1_0\r\nhello\r\n0\r\n\r\n'],
    ['a size with a dot', '5.0\r\nhello\r\n0\r\n\r\n'],
    ['a size with a comma', '5,5\r\nhello\r\n0\r\n\r\n'],
    ['a size with h', '5h\r\nhello\r\n0\r\n\r\n'],
    ['a size in quotes', '"5"\r\nhello\r\n0\r\n\r\n'],
    ['a size that is not a number', 'z\r\nhello\r\n0\r\n\r\n'],
    ['a size beyond ASCII', '\xb5\r\nhello\r\n0\r\n\r\n'],
    ['no size', '\r\nhello\r\n0\r\n\r\n'],
    ['an extension without a size', ';a\r\nhello\r\n0\r\n\r\n'],
    ['a size over 2^64', '10000000000000005\r\nhello\r\n0\r\n\r\n'],
    ['a size of 2^64 less 16', 'FFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n'],
    ['a size of 17 digits', 'FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n'],
    ['a size over 2^53', '20000000000001\r\nhello\r\n0\r\n\r\n'],
    ['an LF after a size', '5\nhello\r\n0\r\n\r\n'],
    ['a CR after a size', '5\rhello\r\n0\r\n\r\n'],
    ['CR CR LF after a size', '5\r\r\nhello\r\n0\r\n\r\n'],
    ['an extension without a name', '5;\r\nhello\r\n0\r\n\r\n'],
    ['an extension without a name before a value', '5;=b\r\nhello\r\n0\r\n\r\n'],
    ['an extension with = and no value', '5;a=\r\nhello\r\n0\r\n\r\n'],
    ['an extension with a name that is not a token', '5;bad[=x\r\nhello\r\n0\r\n\r\n'],
    ['an extension with a value that is not a token', '5;a=b@c\r\nhello\r\n0\r\n\r\n'],
    ['an extension of two words', '5;a b\r\nhello\r\n0\r\n\r\n'],
    ['an extension with an unclosed quote', '5;a="b\r\nhello\r\n0\r\n\r\n'],
    ['an extension with an LF', '5;a\nhello\r\n0\r\n\r\n'],
    ['an extension with a CR', '5;a\rb\r\nhello\r\n0\r\n\r\n'],
    ['an extension with a line end in quotes', '5;a="\r\n\r\n"\r\nhello\r\n0\r\n\r\n'],
    ['an extension with a NUL', '5;a\0\r\nhello\r\n0\r\n\r\n'],
    ['an extension with a DEL', '5;a="\x7f"\r\nhello\r\n0\r\n\r\n'],
    ['an extension of 64 KB', `5;a=${'b'.repeat(65_536)}\r\nhello\r\n0\r\n\r\n`],
    ['data longer than its size', '5\r\nhello!\r\n0\r\n\r\n'],
    ['data shorter than its size', '5\r\nhell\r\n0\r\n\r\n'],
    ['no line end after data', '5\r\nhello0\r\n\r\n'],
    ['an LF after data', '5\r\nhello\n0\r\n\r\n'],
    ['a CR after data', '5\r\nhello\r0\r\n\r\n'],
    ['another byte in place of the CR after data', '5\r\nhello!\n0\r\n\r\n'],
    ['two line ends after data', '5\r\nhello\r\n\r\n0\r\n\r\n'],
    ['an LF after the last chunk', '5\r\nhello\r\n0\n\r\n'],
    ['an LF at the end', '5\r\nhello\r\n0\r\n\n'],
    ['a trailer with a space before the colon', '5\r\nhello\r\n0\r\nX-A : b\r\n\r\n'],
    ['a folded trailer', '5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n'],
    ['a trailer without a name', '5\r\nhello\r\n0\r\n: b\r\n\r\n'],
    ['a trailer without a colon', '5\r\nhello\r\n0\r\nX-A\r\n\r\n'],
    ['a trailer with a CR', '5\r\nhello\r\n0\r\nX-A: b\rc\r\n\r\n'],
    ['a trailer with a NUL', '5\r\nhello\r\n0\r\nX-A: b\0\r\n\r\n'],
    ['a trailer that ends with LF', '5\r\nhello\r\n0\r\nX-A: b\n\r\n'],
    ['trailers of 64 KB', `5\r\nhello\r\n0\r\n${`X-A: ${'b'.repeat(1_000)}\r\n`.repeat(66)}\r\n`],
  ];
  for (const [claim, chunks] of rows) test(claim, (t) => assertAborted(t, START + chunks));
});

describe('the sidecar aborts a request whose client disconnects', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['in a body with Content-Length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello'],
    ['in a chunk', `${START}a\r\nhello`],
    ['between chunks', `${START}5\r\nhello\r\n`],
    ['before the end of the trailers', `${START}5\r\nhello\r\n0\r\nX-A: b\r\n`],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertAborted(t, sent, { end: true }));
});
