/** A forwarded message arrives the same as a message sent directly to the owner. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../../fleet/support.ts';
import { openFleet } from '../../support/fleet.ts';
import {
  get,
  OF_M1,
  OK,
  serveRecordingApp,
  startPair,
  statusOf,
  rawSidecarAt,
  type Field,
  type Message,
  type Pair,
  type Respond,
} from './support.ts';

/** Fields that belong to one hop, and fields that a hop may write in its own case and position. */
const OF_THE_HOP: ReadonlySet<string> = new Set(['via', 'connection', 'keep-alive']);
const REWRITTEN: ReadonlySet<string> = new Set(['host', 'content-length', 'transfer-encoding']);

/** The message in a form that compares across paths: fields sorted by name, stable within a name. */
function endToEnd(message: Message): Message {
  const fields = message.fields
    .filter(([name]) => !OF_THE_HOP.has(name.toLowerCase()))
    .map(([name, value]): Field => [
      REWRITTEN.has(name.toLowerCase()) ? name.toLowerCase() : name,
      value,
    ])
    .toSorted(([one], [other]) => one.toLowerCase().localeCompare(other.toLowerCase()));
  return { ...message, fields };
}

interface Seen {
  readonly byApp: readonly Message[];
  readonly byClient: readonly Message[];
}

async function send(
  pair: Pair,
  path: 'local' | 'forwarded',
  sent: string,
  method: string,
): Promise<Seen> {
  const before = pair.app.requests.length;
  const { messages, rest } = await pair[path].responsesTo(sent, [method]);
  assert.equal(rest, '');
  return {
    byApp: pair.app.requests.slice(before).map(endToEnd),
    byClient: messages.map(endToEnd),
  };
}

const CLOSE = 'Connection: close';
const responding =
  (response: string): Respond =>
  (socket) =>
    socket.write(response, 'latin1');

describe('the app and the client receive the same over a forward:', () => {
  const request = get('/', ...OF_M1, CLOSE);
  const post = (lines: string, body: string): string =>
    ['POST /a/../b?c=%20d HTTP/1.1', 'Host: a', ...OF_M1, CLOSE, lines, '', body].join('\r\n');
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, response?: string])[] = [
    ['a request without a body', request],
    ['a body with Content-Length', post('Content-Length: 5', 'hello')],
    ['a body in chunks', post('Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n')],
    ['a body of 100 KB', post('Content-Length: 100000', 'x'.repeat(100_000))],
    ['trailers of a request', post('Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n')],
    ['fields in order and case, non-ASCII bytes', get('/', ...OF_M1, CLOSE, 'X-b: \xe9\xff', 'x-A: 1', 'X-B: 2')],
    ['fields of the edge', get('/', ...OF_M1, CLOSE, 'X-Forwarded-For: 203.0.113.7', 'X-Forwarded-Proto: https', 'Fly-Client-IP: 203.0.113.7', 'Fly-Region: ams')],
    ['fields that Connection names', get('/', ...OF_M1, 'Connection: close, X-Foo', 'X-Foo: 1', 'X-Kept: 2')],
    ['another method', request.replace('GET', 'PROPFIND')],
    ['an unknown method', request.replace('GET', 'FOO')],
    ['server-wide OPTIONS', request.replace('GET /', 'OPTIONS *')],
    ['absolute-form', request.replace('GET /', 'GET http://a/x?y')],
    ['HTTP/1.0', request.replace('HTTP/1.1', 'HTTP/1.0')],
    ['a Host with a port', request.replace('Host: a', 'Host: example.com:8443')],
    ['a target of 8,000 bytes', request.replace('GET /', `GET /${'a'.repeat(7_999)}`)],
    ['Expect: 100-continue', post('Expect: 100-continue\r\nContent-Length: 5', 'hello')],
    ['a non-ASCII reason', request, 'HTTP/1.1 404 Non trouv\xe9\r\nContent-Length: 0\r\n\r\n'],
    ['an empty reason', request, 'HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n'],
    ['fields of a response in order and case', request, 'HTTP/1.1 200 OK\r\nX-b: \xe9\r\nSet-Cookie: a=1\r\nx-A: 2\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n'],
    ['a response in chunks, with trailers', request, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n'],
    ['an interim response', request, `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-A: b\r\n\r\n${OK}`],
    ['a response to HEAD', request.replace('GET', 'HEAD'), 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n'],
    ['204', request, 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['304 with a length', request, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n'],
    ['an HTTP/1.0 response', request, 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['an invalid response: 502', post('Content-Length: 5', 'hello'), 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ['503 of the app', request, 'HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: 4\r\n\r\nbusy'],
    ['421 of the app', request, 'HTTP/1.1 421 Misdirected Request\r\nContent-Length: 2\r\n\r\nno'],
    ['403 of the app', request, 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'],
  ];
  for (const [claim, sent, response = OK] of rows) {
    test(claim, async (t) => {
      const pair = await startPair(t, { respond: responding(response) });
      const method = sent.split(' ')[0] ?? '';
      const local = await send(pair, 'local', sent, method);
      assert.ok(local.byApp.length === 1 && local.byClient.length > 0);
      assert.deepEqual(await send(pair, 'forwarded', sent, method), local);
    });
  }
});

describe('a limit is the same over a forward:', () => {
  for (const size of [1_000, 15_000, 17_000, 40_000, 60_000, 70_000, 300_000]) {
    test(`a response head of ${size} bytes`, async (t) => {
      const start = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: ';
      const response = `${start}${'b'.repeat(size - start.length - 4)}\r\n\r\nok`;
      const pair = await startPair(t, { respond: responding(response) });
      const sent = get('/', ...OF_M1, CLOSE).replace('GET', 'POST');
      const [local, forwarded] = [
        await send(pair, 'local', sent, 'POST'),
        await send(pair, 'forwarded', sent, 'POST'),
      ];
      const statusesOf = ({ byClient }: Seen): number[] =>
        byClient.map(({ startLine }) => statusOf(startLine));
      assert.deepEqual(statusesOf(forwarded), statusesOf(local));
      if (size <= 60_000) assert.deepEqual(statusesOf(local), [200]);
      assert.deepEqual([local.byApp.length, forwarded.byApp.length], [1, 1]);
    });
  }

  for (const size of [
    1_000, 16_000, 30_000, 32_000, 32_500, 32_700, 32_768, 32_800, 40_000, 70_000,
  ]) {
    test(`a request head of ${size} bytes`, async (t) => {
      const pair = await startPair(t);
      const rest = get('/', ...OF_M1, CLOSE, 'X-A: ');
      const sent = rest.replace('X-A: ', `X-A: ${'b'.repeat(size - rest.length)}`);
      const local = await send(pair, 'local', sent, 'GET');
      const forwarded = await send(pair, 'forwarded', sent, 'GET');
      const [status = 0] = local.byClient.map(({ startLine }) => statusOf(startLine));
      if (size <= 32_000) assert.equal(status, 200);
      else assert.ok([200, 431].includes(status), `the status is ${status}`);
      const seen = ({ byClient, byApp }: Seen): unknown => [byClient, byApp];
      assert.deepEqual(seen(forwarded), seen(local));
    });
  }

  for (const count of [100, 500, 900, 1_100, 2_100]) {
    test(`${count} request fields`, async (t) => {
      const pair = await startPair(t);
      const lines = Array.from({ length: count }, (_, i) => `X-${i}: ${i}`);
      const sent = get('/', ...OF_M1, CLOSE, ...lines);
      const local = await send(pair, 'local', sent, 'GET');
      assert.deepEqual(await send(pair, 'forwarded', sent, 'GET'), local);
      const [request] = local.byApp;
      const arrived = request?.fields.filter(([name]) => /^X-\d/.test(name)).length ?? 0;
      // The app receives all fields, or no request.
      assert.equal(arrived, request ? count : 0);
    });
  }
});

describe("the header with which a sidecar rejects a forward has no effect in the app's response:", () => {
  // prettier-ignore
  const rows: readonly (readonly [status: number, reason: string])[] = [
    [421, 'moved'],
    [421, 'not-meant'],
    [403, 'stranger'],
    [200, 'moved'],
  ];
  const rejecting = (status: number, reason: string): string =>
    `HTTP/1.1 ${status} Mine\r\nX-Fly-Affinity-Refused: ${reason}\r\nX-A: b\r\nContent-Length: 4\r\n\r\nmine`;

  for (const [status, reason] of rows) {
    test(`${status} with ${reason}`, async (t) => {
      const pair = await startPair(t, { respond: responding(rejecting(status, reason)) });
      const sent = get('/', ...OF_M1, CLOSE).replace('GET', 'POST');
      for (const path of ['local', 'forwarded'] as const) {
        const { byApp, byClient } = await send(pair, path, sent, 'POST');
        const [response] = byClient;
        assert.ok(response);
        const { startLine, body, fields } = response;
        assert.deepEqual([byApp.length, statusOf(startLine), body], [1, status, 'mine'], path);
        const names = fields.map(([name]) => name.toLowerCase());
        assert.ok(names.includes('x-a'));
        if (path === 'forwarded') assert.ok(!names.includes('x-fly-affinity-refused'));
      }
    });
  }

  test('421 with moved, which does not drop a copy of a binding', async (t) => {
    const minting = 'HTTP/1.1 200 OK\r\nMcp-Session-Id: abc\r\nContent-Length: 0\r\n\r\n';
    const env = { SESSION_ID_HINTS: 'false' };
    const app = await serveRecordingApp(t, (socket, { startLine }) =>
      socket.write(startLine.includes('/open') ? minting : rejecting(421, 'moved')),
    );
    const fleet = await openFleet(t, 'm1', 'm2');
    const [m1, m2] = [
      await fleet.start('m1', app.port, env),
      await fleet.start('m2', app.port, env),
    ];
    await rawSidecarAt(t, m1.sidecar.ports.public, app).responsesTo(get('/open', CLOSE));
    await until(async () => (await m2.rowCount()) === 1);
    const session = ['Mcp-Session-Id: abc', 'Fly-Replay-Src: instance=m3;t=1;state=fly-affinity'];
    const toM2 = rawSidecarAt(t, m2.sidecar.ports.public, app);
    const { messages } = await toM2.responsesTo(get('/', ...session, CLOSE));
    assert.deepEqual(
      messages.map(({ body }) => body),
      ['mine'],
    );
    assert.equal(await m2.rowCount(), 1);
  });
});
