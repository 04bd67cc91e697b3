import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cuts, parse, type ParseOptions } from './parsing.ts';

const WHOLE: readonly (readonly [name: string, response: string, options?: ParseOptions])[] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello'],
  ['a length of zero', 'HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n'],
  ['no reason', 'HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx'],
  ['no reason and no space', 'HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx'],
  [
    'chunks',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n',
  ],
  [
    'chunks in capitals',
    'HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\na\r\n000\r\n\r\n',
  ],
  ['no chunk but the last', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  [
    'chunks with extensions and trailers',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b;c="d e"\r\na\r\n00b;q\r\n0123456789\n\r\n0;z\r\nX-Sum: 1\r\nx-sum:\t2 \r\n\r\n',
  ],
  [
    'bytes until the end',
    'HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nhello\r\n\r\nHTTP/1.1 200 OK\r\n\r\n',
  ],
  ['nothing until the end', 'HTTP/1.0 200 OK\r\n\r\n'],
  ['no body to HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', { method: 'HEAD' }],
  [
    'no body to HEAD, chunked',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
    { method: 'HEAD' },
  ],
  ['204', 'HTTP/1.1 204 No Content\r\nX: y\r\n\r\n'],
  ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "a"\r\n\r\n'],
  [
    '1xx before the head',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
  ],
  [
    'names and values as they come',
    "HTTP/1.1 200 OK\r\nX-Empty:\r\nx-EMPTY: \t \r\nX-Latin: caf\xe9\r\nX-Colon: a:b: c\r\nX!#$%&'*+-.^_`|~9: a  b\tc\t\r\nSet-Cookie: a=1\r\nset-cookie: a=2\r\nContent-Length: 1\r\n\r\n\xff",
  ],
  [
    'a switch of protocols',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n',
  ],
];

for (const [name, response, options] of WHOLE) {
  test(`a response is parsed the same for every split: ${name}`, () => {
    const expected = parse([response], options);
    assert.match(expected.ending, /complete|upgrade/);
    for (const pieces of cuts(response)) assert.deepEqual(parse(pieces, options), expected);
  });

  test(`a missing or extra byte is detected: ${name}`, () => {
    const complete = parse([response], options);
    const isUntilClose =
      complete.body !== '' && !complete.isPersistent && complete.ending === 'complete';
    if (isUntilClose || name === 'nothing until the end') return;
    assert.equal(parse([response + '!'], options).rest, '!');
    assert.equal(parse([response.slice(0, -1)], options).ending, 'cut short');
  });
}

function responseOf(wanted: string): string {
  const [, response = ''] = WHOLE.find(([name]) => name === wanted) ?? [];
  return response;
}

test('fields keep order and case, without the white space around their values', () => {
  const expected =
    "X-Empty||x-EMPTY||X-Latin|caf\xe9|X-Colon|a:b: c|X!#$%&'*+-.^_`|~9|a  b\tc|Set-Cookie|a=1|set-cookie|a=2|Content-Length|1";
  const { rawHeaders } = parse([responseOf('names and values as they come')]);
  assert.equal(rawHeaders.join('|'), expected);
});

test('interim heads are distinguished from the response', () => {
  assert.deepEqual(parse([responseOf('1xx before the head')]).interims, [
    [100, []],
    [103, ['Link', '</a>', 'Link', '</b>']],
    [102, []],
  ]);
});

test('decoded chunks have no framing, and framed chunks pass unchanged', () => {
  const response = responseOf('chunks with extensions and trailers');
  const { body, framed } = parse([response]);
  assert.equal(body, 'a0123456789\n');
  const trailers = 'X-Sum: 1\r\nx-sum: 2\r\n\r\n';
  const [, ...chunks] = response.replace(/X-Sum[^]*$/, '').split('\r\n\r\n');
  assert.equal(framed, chunks.join('\r\n\r\n') + trailers);
});

const REUSE: readonly (readonly [head: string, isPersistent: boolean])[] = [
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', true],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n', true],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: X-Foo ,\tCLOSE\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-foo\r\nConnection: close\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: closed\r\n\r\n', true],
  ['HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n', false],
  ['HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n', true],
  ['HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: x-foo, Keep-Alive\r\n\r\n', true],
  ['HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: x-foo\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n', false],
  ['HTTP/1.1 204 No Content\r\n\r\n', true],
];

test('a connection is persistent by HTTP/1.1 or by keep-alive of the server', () => {
  for (const [head, isPersistent] of REUSE) {
    assert.equal(parse([head]).isPersistent, isPersistent, JSON.stringify(head));
  }
});

test('a head may have up to the limit, in one line or many', () => {
  const status = 'HTTP/1.1 204 OK\r\n';
  const many = 'A: b\r\n'.repeat(100);
  for (const lines of [many, `A: ${'b'.repeat(594)}\r\n`]) {
    const head = `${status}${lines}\r\n`;
    for (const pieces of [[head], Array.from(head)]) {
      assert.equal(parse(pieces, { headBytes: head.length }).ending, 'complete');
      assert.equal(parse(pieces, { headBytes: head.length - 1 }).ending, 'malformed');
    }
  }
  assert.equal(parse(['HTTP/1.1 200 OK\r\nA: ', 'x'.repeat(65_536)]).ending, 'malformed');
});

test('trailers have the limit of a head', () => {
  const response = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ${'b'.repeat(200)}\r\n\r\n`;
  assert.equal(parse([response], { headBytes: 207 }).ending, 'complete');
  assert.equal(parse([response], { headBytes: 206 }).ending, 'malformed');
});
