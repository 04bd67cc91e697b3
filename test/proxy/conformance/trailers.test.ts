/** Trailers of requests and responses (RFC 9110 §6.5, RFC 9112 §7.1.2): which ones the sidecar passes on and which it drops. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { assertReachesApp, get, startRawSidecar, type Message } from './support.ts';

const REQUEST = 'POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n';
const RESPONSE = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const chunksWith = (trailers: string): string => `5\r\nhello\r\n0\r\n${trailers}\r\n`;

type Pass = (t: TestContext, trailers: string, env?: Record<string, string>) => Promise<Message>;

/** The request with these trailers as the app receives it. */
const passRequest: Pass = (t, trailers, env = {}) =>
  assertReachesApp(t, REQUEST + chunksWith(trailers), { env });

/** The response with these trailers as the client receives it. Another response follows it. */
const passResponse: Pass = async (t, trailers, env = {}) => {
  const respond = (socket: { write(text: string, encoding: 'latin1'): unknown }): void =>
    void socket.write(RESPONSE + chunksWith(trailers), 'latin1');
  const sidecar = await startRawSidecar(t, { respond, env });
  const sent = get('/', 'TE: trailers') + get('/', 'TE: trailers', 'Connection: close, TE');
  const { messages, rest } = await sidecar.responsesTo(sent);
  assert.deepEqual([messages.length, rest], [2, '']);
  const [response] = messages;
  assert.ok(response);
  return response;
};

for (const [whose, pass] of [
  ['a request', passRequest],
  ['a response', passResponse],
] as const) {
  describe(`trailers of ${whose} are passed on:`, () => {
    // prettier-ignore
    const rows: readonly (readonly [claim: string, trailers: string, passed: Message['trailers']])[] = [
      ['none', '', []],
      ['one', 'X-Sum: 1\r\n', [['X-Sum', '1']]],
      ['several with one name, in their order and case', 'X-A: 1\r\nx-b: 2\r\nX-a: 3\r\n', [['X-A', '1'], ['x-b', '2'], ['X-a', '3']]],
      ['bytes beyond ASCII', 'X-A: \xe9\xff\r\n', [['X-A', '\xe9\xff']]],
      ['Server-Timing', 'Server-Timing: db;dur=53\r\n', [['Server-Timing', 'db;dur=53']]],
      ['a trailer of gRPC', 'grpc-status: 0\r\n', [['grpc-status', '0']]],
    ];
    for (const [claim, trailers, passed] of rows) {
      test(claim, async (t) => {
        const message = await pass(t, trailers);
        assert.deepEqual([message.body, message.trailers], ['hello', passed]);
      });
    }
  });

  describe(`a trailer of ${whose} is dropped, and the rest of the message is passed on (RFC 9110 §6.5.1):`, () => {
    // prettier-ignore
    const rows: readonly (readonly [claim: string, trailer: string])[] = [
      ['a length', 'Content-Length: 99'],
      ['a length in another case', 'content-LENGTH: 0'],
      ['a transfer coding', 'Transfer-Encoding: chunked'],
      ['Host', 'Host: b'],
      ['Connection', 'Connection: close'],
      ['Connection that names a field', 'Connection: x-kept'],
      ['Keep-Alive', 'Keep-Alive: timeout=1'],
      ['Upgrade', 'Upgrade: websocket'],
      ['TE', 'TE: trailers'],
      ['Trailer', 'Trailer: X-Sum'],
      ['Expect', 'Expect: 100-continue'],
      ['Content-Type', 'Content-Type: text/html'],
      ['Content-Encoding', 'Content-Encoding: gzip'],
      ['Authorization', 'Authorization: Bearer x'],
      ['Cookie', 'Cookie: a=b'],
      ['Set-Cookie', 'Set-Cookie: a=b'],
      ['a session id', 'Mcp-Session-Id: x'],
      ['a session id in another case', 'mcp-session-ID: x'],
      ['a session id of JSON-RPC', 'X-Session-Id: x'],
      ['Fly-Replay', 'Fly-Replay: instance=m2'],
      ['Fly-Replay-Src', 'Fly-Replay-Src: instance=m2'],
      ['Fly-Replay-Failed', 'Fly-Replay-Failed: instance=m2'],
      ['Fly-Replay-Cache', 'Fly-Replay-Cache: /*'],
      ['Fly-Client-IP', 'Fly-Client-IP: 192.0.2.1'],
      ['X-Forwarded-For', 'X-Forwarded-For: 192.0.2.1'],
      ['X-Forwarded-Proto', 'X-Forwarded-Proto: https'],
      ['X-Forwarded-Host', 'X-Forwarded-Host: b'],
      ['Forwarded', 'Forwarded: for=192.0.2.1'],
      ['Via', 'Via: 1.1 b'],
    ];
    for (const [claim, trailer] of rows) {
      test(claim, async (t) => {
        const message = await pass(t, `X-Kept: 1\r\n${trailer}\r\nX-Last: 2\r\n`);
        const kept = [
          ['X-Kept', '1'],
          ['X-Last', '2'],
        ];
        assert.deepEqual([message.body, message.trailers], ['hello', kept]);
      });
    }

    test('a session id in a configured header', async (t) => {
      const env = { SESSION_PROTOCOLS: 'header:x-room' };
      const { trailers } = await pass(t, 'X-Kept: 1\r\nX-Room: x\r\n', env);
      assert.deepEqual(trailers, [['X-Kept', '1']]);
    });
  });
}
