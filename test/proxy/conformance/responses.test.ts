/** Responses of the app (RFC 9112 §4 to §7): what reaches the client and what becomes a 502. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import {
  get,
  OK,
  responsesIn,
  startRawSidecar,
  statusOf,
  valuesOf,
  type Field,
  type Message,
} from './support.ts';

const REST = 'Content-Length: 2\r\n\r\nok';

interface RequestOptions {
  readonly method?: string;
  /** The app ends its connection after the response. */
  readonly end?: boolean;
}

/**
 * The messages that the client receives for this response of the app. Checks that the next request
 * on the same connection gets its response.
 */
async function receivedFor(
  t: TestContext,
  response: string,
  { method = 'GET', end = false }: RequestOptions = {},
): Promise<readonly Message[]> {
  const sidecar = await startRawSidecar(t, {
    respond: (socket, { startLine }) => {
      if (startLine.includes('/last ')) socket.write(OK);
      else if (end) socket.end(response, 'latin1');
      else socket.write(response, 'latin1');
    },
  });
  const first = get('/').replace('GET', method);
  const sent = first + get('/last', 'Connection: close');
  const { messages, rest } = await sidecar.responsesTo(sent, [method]);
  assert.equal(rest, '');
  const last = messages.at(-1);
  assert.deepEqual([statusOf(last?.startLine ?? ''), last?.body], [200, 'ok']);
  return messages.slice(0, -1);
}

async function onlyMessageFor(
  t: TestContext,
  response: string,
  options?: RequestOptions,
): Promise<Message> {
  const [message, ...more] = await receivedFor(t, response, options);
  assert.ok(message && more.length === 0, 'exactly one response');
  return message;
}

describe('a status line reaches the client', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, passed?: string])[] = [
    ['unchanged', 'HTTP/1.1 200 OK'],
    ['with another reason', 'HTTP/1.1 200 All is well'],
    ['with an empty reason', 'HTTP/1.1 200 '],
    ['with a reason beyond ASCII', 'HTTP/1.1 404 Non trouv\xe9'],
    ['with white space in the reason', 'HTTP/1.1 200  a\tb '],
    ['with an unknown code', 'HTTP/1.1 299 Odd'],
    ['with an unknown 5xx code', 'HTTP/1.1 599 Odd'],
    ['of HTTP/1.0, as HTTP/1.1 (RFC 9110 §2.5)', 'HTTP/1.0 200 OK', 'HTTP/1.1 200 OK'],
  ];
  for (const [claim, sent, passed = sent] of rows) {
    test(claim, async (t) => {
      const { startLine } = await onlyMessageFor(t, `${sent}\r\n${REST}`);
      assert.equal(startLine, passed);
    });
  }
});

describe('a field of a response reaches the client:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, line: string, field: Field])[] = [
    ['a name in its own case', 'x-FoO: b', ['x-FoO', 'b']],
    ['a space before the colon, removed (§5.1)', 'X-A : b', ['X-A', 'b']],
    ['a tab before the colon, removed', 'X-A\t: b', ['X-A', 'b']],
    ['no value', 'X-A:', ['X-A', '']],
    ['a value beyond ASCII', 'X-A: \x80\xe9\xff', ['X-A', '\x80\xe9\xff']],
    ['a value with a tab', 'X-A: b\tc', ['X-A', 'b\tc']],
    ['a value of 8,000 bytes', `X-A: ${'b'.repeat(8_000)}`, ['X-A', 'b'.repeat(8_000)]],
  ];
  for (const [claim, line, field] of rows) {
    test(claim, async (t) => {
      const { fields, body } = await onlyMessageFor(t, `HTTP/1.1 200 OK\r\n${line}\r\n${REST}`);
      assert.deepEqual(
        fields.filter(([name]) => /^x-/i.test(name)),
        [field],
      );
      assert.equal(body, 'ok');
    });
  }

  test('several with one name, in their order', async (t) => {
    const lines = 'Set-Cookie: a=1\r\nX-A: b\r\nset-cookie: c=2\r\nSet-Cookie: a=1\r\n';
    const { fields } = await onlyMessageFor(t, `HTTP/1.1 200 OK\r\n${lines}${REST}`);
    assert.deepEqual(fields.slice(0, 4), [
      ['Set-Cookie', 'a=1'],
      ['X-A', 'b'],
      ['set-cookie', 'c=2'],
      ['Set-Cookie', 'a=1'],
    ]);
  });
});

for (const fold of ['\r\n ', '\r\n\t', '\r\n \t ']) {
  test(`a field folded by ${JSON.stringify(fold)} is unfolded or rejected, never passed on (§5.2)`, async (t) => {
    const message = await onlyMessageFor(t, `HTTP/1.1 200 OK\r\nX-A: b${fold}c\r\n${REST}`);
    if (statusOf(message.startLine) === 502) return;
    assert.match(valuesOf(message, 'x-a').join('|'), /^b[ \t]+c$/);
  });
}

test('a Content-Length with a space before the colon counts as a length, or is rejected', async (t) => {
  const message = await onlyMessageFor(t, 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok');
  if (statusOf(message.startLine) === 502) return;
  assert.deepEqual([valuesOf(message, 'content-length'), message.body], [['2'], 'ok']);
});

describe('a response has no body, whatever its framing fields are:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, method: string, response: string, length: readonly string[]])[] = [
    ['to HEAD, with the length of GET', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n', ['99']],
    ['to HEAD, with a length of 0', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ['0']],
    ['to HEAD, with chunks', 'HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', []],
    ['to HEAD, with neither', 'HEAD', 'HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n', []],
    ['304 with the length of 200', 'GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n', ['99']],
    ['304 with neither', 'GET', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', []],
    ['304 to HEAD', 'HEAD', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n', ['99']],
    ['204', 'GET', 'HTTP/1.1 204 No Content\r\n\r\n', []],
    ['204 with a length of 0, which the sidecar removes (RFC 9110 §8.6)', 'GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', []],
    ['204 to DELETE with a length of 0', 'DELETE', 'HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n', []],
    ['204 to HEAD with a length', 'HEAD', 'HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n', []],
  ];
  for (const [claim, method, response, length] of rows) {
    test(claim, async (t) => {
      const message = await onlyMessageFor(t, response, { method });
      assert.deepEqual(valuesOf(message, 'content-length'), length);
      assert.equal(message.startLine, response.split('\r\n')[0]);
    });
  }
});

test('a 204 with a transfer coding reaches the client without the coding, or as a 502 (RFC 9112 §6.1)', async (t) => {
  const response = 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n';
  const message = await onlyMessageFor(t, response, { end: true });
  assert.ok([204, 502].includes(statusOf(message.startLine)));
  if (statusOf(message.startLine) === 204) {
    assert.deepEqual(valuesOf(message, 'transfer-encoding'), []);
  }
});

describe('an interim response reaches the client with its reason and fields:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, interim: string, passed: readonly [startLine: string, ...Field[]][]])[] = [
    ['103', 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n', [['HTTP/1.1 103 Early Hints', ['Link', '</a.css>; rel=preload']]]],
    ['103 with several links', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n', [['HTTP/1.1 103 Early Hints', ['Link', '</a>'], ['link', '</b>']]]],
    ['103 with other fields', 'HTTP/1.1 103 Early Hints\r\nX-A: \xe9\r\nContent-Security-Policy: x\r\n\r\n', [['HTTP/1.1 103 Early Hints', ['X-A', '\xe9'], ['Content-Security-Policy', 'x']]]],
    ['103 with an invalid Link', 'HTTP/1.1 103 Early Hints\r\nLink: nonsense\r\n\r\n', [['HTTP/1.1 103 Early Hints', ['Link', 'nonsense']]]],
    ['103 with another reason', 'HTTP/1.1 103 Soon\r\nLink: </a>\r\n\r\n', [['HTTP/1.1 103 Soon', ['Link', '</a>']]]],
    ['102', 'HTTP/1.1 102 Processing\r\n\r\n', [['HTTP/1.1 102 Processing']]],
    ['an unknown one', 'HTTP/1.1 199 Odd\r\nX-A: b\r\n\r\n', [['HTTP/1.1 199 Odd', ['X-A', 'b']]]],
    ['several', 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n', [['HTTP/1.1 102 Processing'], ['HTTP/1.1 103 Early Hints', ['Link', '</a>']]]],
    ['without a length (RFC 9110 §8.6)', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n', [['HTTP/1.1 103 Early Hints', ['Link', '</a>']]]],
  ];
  for (const [claim, interim, passed] of rows) {
    test(claim, async (t) => {
      const messages = await receivedFor(t, interim + OK);
      const isOwn = ([name]: Field): boolean => name.toLowerCase() !== 'via';
      const seen = messages.map(({ startLine, fields }) => [startLine, ...fields.filter(isOwn)]);
      assert.deepEqual(seen.slice(0, -1), passed);
      assert.equal(messages.at(-1)?.body, 'ok');
    });
  }
});

describe('an HTTP/1.0 client receives', () => {
  const CHUNKS = '2\r\nok\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n';
  // prettier-ignore
  const rows: readonly (readonly [claim: string, response: string, body: string, end?: boolean])[] = [
    ['no interim response', `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${OK}`, 'ok'],
    ['no 100 response without Expect', `HTTP/1.1 100 Continue\r\n\r\n${OK}`, 'ok'],
    ['chunks as a body that ends with the connection', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'ok!'],
    ['chunks with announced trailers, as the same body', `HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 'ok!'],
    ['a body that ends when the app closes', 'HTTP/1.1 200 OK\r\n\r\nok', 'ok', true],
    ['an HTTP/1.0 response', 'HTTP/1.0 200 OK\r\n\r\nok', 'ok', true],
    ['a body with Content-Length', OK, 'ok'],
  ];
  for (const [claim, response, body, end = false] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, {
        respond: (socket) => (end ? socket.end(response) : socket.write(response)),
      });
      const { messages, rest } = await sidecar.responsesTo('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, body, '']);
      assert.deepEqual(valuesOf(messages[0] ?? { fields: [] }, 'transfer-encoding'), []);
    });
  }
});

describe('an HTTP/1.1 client receives the complete body of a response that ends when the app closes:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, head: string, body: string])[] = [
    ['of HTTP/1.1', 'HTTP/1.1 200 OK\r\nConnection: close\r\n', 'ok'],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\n', 'ok'],
    ['of HTTP/1.0 with Connection: keep-alive', 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n', 'ok'],
    ['that is empty', 'HTTP/1.0 200 OK\r\n', ''],
    ['of 1 MB', 'HTTP/1.0 200 OK\r\n', 'x'.repeat(1_000_000)],
  ];
  for (const [claim, head, body] of rows) {
    test(claim, async (t) => {
      const response = `${head}X-A: b\r\n\r\n${body}`;
      const sidecar = await startRawSidecar(t, { respond: (socket) => socket.end(response) });
      const { messages, rest } = await sidecar.responsesTo(get('/', 'Connection: close'));
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, body, '']);
    });
  }
});

describe('an HTTP/1.0 response with Content-Length reaches the client before the app closes:', () => {
  for (const [claim, lines] of [
    ['without keep-alive', ''],
    ['with keep-alive', 'Connection: keep-alive\r\n'],
  ] as const) {
    test(claim, async (t) => {
      const { body } = await onlyMessageFor(t, `HTTP/1.0 200 OK\r\n${lines}${REST}`);
      assert.equal(body, 'ok');
    });
  }
});

describe('returns 502 for a response of the app with:', () => {
  const START = 'HTTP/1.1 200 OK\r\n';
  // prettier-ignore
  const rows: readonly (readonly [claim: string, response: string, options?: RequestOptions])[] = [
    ['a length and a coding', `${START}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a coding and a length', `${START}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n`],
    ['two lengths', `${START}Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!`],
    ['two lengths, the other way round', `${START}Content-Length: 3\r\nContent-Length: 2\r\n\r\nok!`],
    ['a list of lengths', `${START}Content-Length: 2, 3\r\n\r\nok!`],
    ['a length with a plus', `${START}Content-Length: +2\r\n\r\nok`],
    ['a length with a minus', `${START}Content-Length: -2\r\n\r\nok`],
    ['a length in hexadecimal', `${START}Content-Length: 0x2\r\n\r\nok`],
    ['a length that is not a number', `${START}Content-Length: abc\r\n\r\nok`],
    ['an empty Content-Length', `${START}Content-Length:\r\n\r\nok`],
    ['a length of 20 digits', `${START}Content-Length: 99999999999999999999\r\n\r\nok`],
    ['gzip and chunked', `${START}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
    ['chunked and gzip', `${START}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`],
    ['chunked twice', `${START}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`],
    ['an unknown coding', `${START}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
    ['a coding in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a NUL in a value', `${START}X-A: b\0c\r\n${REST}`],
    ['a CR in a value', `${START}X-A: b\rc\r\n${REST}`],
    ['a control character in a value', `${START}X-A: b\x01c\r\n${REST}`],
    ['a DEL in a value', `${START}X-A: b\x7fc\r\n${REST}`],
    ['an LF for a line end', `${START}X-A: b\n${REST}`],
    ['an LF after the status line', `HTTP/1.1 200 OK\n${REST}`],
    ['a name with a space in it', `${START}X A: b\r\n${REST}`],
    ['a name beyond ASCII', `${START}X-\xe9: b\r\n${REST}`],
    ['no name', `${START}: b\r\n${REST}`],
    ['no colon', `${START}X-A\r\n${REST}`],
    ['HTTP/2.0', `HTTP/2.0 200 OK\r\n${REST}`],
    ['HTTP/1.2', `HTTP/1.2 200 OK\r\n${REST}`],
    ['HTTP/1.10', `HTTP/1.10 200 OK\r\n${REST}`],
    ['lower case', `http/1.1 200 OK\r\n${REST}`],
    ['another protocol', 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ['ICY', `ICY 200 OK\r\n${REST}`],
    ['no status line', '<html>not found</html>\r\n\r\n'],
    ['a code of two digits', `HTTP/1.1 20 OK\r\n${REST}`],
    ['a code of four digits', `HTTP/1.1 2000 OK\r\n${REST}`],
    ['a code that is not a number', `HTTP/1.1 2x0 OK\r\n${REST}`],
    ['a code below 100', `HTTP/1.1 099 OK\r\n${REST}`],
    ['a negative code', `HTTP/1.1 -20 OK\r\n${REST}`],
    ['two spaces before the code', `HTTP/1.1  200 OK\r\n${REST}`],
    ['a tab before the code', `HTTP/1.1\t200 OK\r\n${REST}`],
    ['no code', `HTTP/1.1\r\n${REST}`],
    ['a NUL in the reason', `HTTP/1.1 200 O\0K\r\n${REST}`],
    ['a CR in the reason', `HTTP/1.1 200 O\rK\r\n${REST}`],
    ['a 101 without an upgrade request', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
    ['an end before a response', '', { end: true }],
    ['an end in the middle of the status line', 'HTTP/1.1 2', { end: true }],
    ['an end in the middle of the head', `${START}X-A: b\r\n`, { end: true }],
  ];
  for (const [claim, response, options] of rows) {
    test(claim, async (t) => {
      const message = await onlyMessageFor(t, response, { method: 'POST', ...options });
      assert.equal(statusOf(message.startLine), 502);
      assert.deepEqual(
        message.fields.filter(([name]) => /^x-[a\xe9]$/i.test(name)),
        [],
      );
      assert.doesNotMatch(message.body, /^ok|html/);
    });
  }
});

describe('returns 502 for a 101 response that does not match the Upgrade of the client (RFC 9110 §7.8):', () => {
  const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\n';
  // prettier-ignore
  const rows: readonly (readonly [claim: string, response: string])[] = [
    ['to another protocol', `${SWITCH}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n`],
    ['to a protocol whose name only starts with the requested one', `${SWITCH}Connection: Upgrade\r\nUpgrade: websocket2\r\n\r\n`],
    ['to no protocol', `${SWITCH}\r\n`],
  ];
  for (const [claim, response] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, { respond: (socket) => socket.write(response) });
      const client = await sidecar.connect();
      client.send(get('/', 'Connection: Upgrade', 'Upgrade: websocket'));
      const text = await client.until((all) => responsesIn(all).messages.length > 0);
      assert.equal(statusOf(text.split('\r\n')[0] ?? ''), 502);
    });
  }
});

describe('the client never receives a malformed body of the app as complete:', () => {
  const START = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  // prettier-ignore
  const rows: readonly (readonly [claim: string, response: string])[] = [
    ['a size that is not a number', `${START}2\r\nok\r\nz\r\n\r\n0\r\n\r\n`],
    ['a size with 0x', `${START}2\r\nok\r\n0x1\r\n!\r\n0\r\n\r\n`],
    ['a size with a plus', `${START}2\r\nok\r\n+1\r\n!\r\n0\r\n\r\n`],
    ['a size over 2^64', `${START}2\r\nok\r\n10000000000000001\r\n!\r\n0\r\n\r\n`],
    ['a space after a size', `${START}2\r\nok\r\n1 \r\n!\r\n0\r\n\r\n`],
    ['an LF after a size', `${START}2\r\nok\r\n1\n!\r\n0\r\n\r\n`],
    ['data longer than its size', `${START}2\r\nok!\r\n0\r\n\r\n`],
    ['no line end after data', `${START}2\r\nok0\r\n\r\n`],
    ['a trailer with a NUL', `${START}2\r\nok\r\n0\r\nX-A: b\0\r\n\r\n`],
    ['a folded trailer', `${START}2\r\nok\r\n0\r\nX-A: b\r\n c\r\n\r\n`],
  ];
  for (const [claim, response] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, {
        respond: (socket) => socket.write(response, 'latin1'),
      });
      const client = await sidecar.connect();
      client.send(get('/'));
      const { messages, rest } = responsesIn(await client.untilClosed());
      // The sidecar may detect the error before it sends the head.
      if (messages.length > 0) assert.equal(statusOf(messages[0]?.startLine ?? ''), 502);
      else assert.doesNotMatch(rest, /\r\n0\r\n(?:.*\r\n)?\r\n/s);
    });
  }
});

test('bytes after a response are not used as the next response', async (t) => {
  const responses = [OK + 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil', OK];
  const sidecar = await startRawSidecar(t, {
    respond: (socket) => socket.write(responses.shift() ?? OK),
  });
  const { messages, rest } = await sidecar.responsesTo(get('/1') + get('/2', 'Connection: close'));
  assert.deepEqual([messages.map(({ body }) => body), rest], [['ok', 'ok'], '']);
});
