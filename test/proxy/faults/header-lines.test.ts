/**
 * Fault 5: some versions of Node.js silently dropped the lines of a head after about 1,020, including
 * the length, and so the body. A head arrives complete, or the sidecar returns 431.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  BOUNDED,
  get,
  requestText,
  hasConnectionClose,
  summaryOf,
  untilArrived,
  untilEnded,
  untilResponses,
  type ReceivedResponse,
} from './support.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** Short lines with different values, and names in any case. Some names repeat. */
function linesOf(count: number): string[] {
  return Array.from(
    { length: count },
    (_, i) => `${['x', 'X', 'X-y'][i % 3] ?? ''}-${i >> 1}: ${i}`,
  );
}

interface HeadApp {
  readonly port: number;
  /** Everything received, on all connections. */
  readonly received: () => string;
}

/** Responds when a head and its complete body have arrived. */
async function serveHeadApp(t: TestContext, response = OK): Promise<HeadApp> {
  let received = '';
  const responded = new WeakSet<Socket>();
  const port = await serveRawApp(t, (socket, packet) => {
    received += packet;
    if (responded.has(socket) || !isWhole(received)) return;
    responded.add(socket);
    socket.write(response);
  });
  return { port, received: () => received };
}

function isWhole(received: string): boolean {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = /\r\nContent-Length: (\d+)\r\n/.exec(received.slice(0, end + 2))?.[1] ?? 0;
  return received.length >= end + 4 + Number(length);
}

/** The given lines that the head contains, in its order. */
function kept(head: string, lines: readonly string[]): string[] {
  const wanted = new Set(lines);
  return head.split('\r\n').filter((line) => wanted.has(line));
}

/** Sends a request with these lines. */
async function sendLines(
  t: TestContext,
  lines: readonly string[],
): Promise<{ app: HeadApp; response: ReceivedResponse }> {
  const app = await serveHeadApp(t);
  const sidecar = await startTestSidecar(t, app.port);
  const client = await openClient(t, sidecar.ports.public);
  client.send(`${requestText('POST', '/', ...lines, 'Content-Length: 5')}hello`);
  const [response] = await untilResponses(client, 1);
  await untilArrived(sidecar);
  assert.ok(response);
  return { app, response };
}

describe('the lines of a request head', () => {
  for (const count of [100, 400]) {
    test(`arrive in order and case, with the body: ${count}`, BOUNDED, async (t) => {
      const lines = linesOf(count);
      const { app, response } = await sendLines(t, lines);
      assert.equal(summaryOf(response), '200 ok');
      const [head = '', body] = app.received().split('\r\n\r\n');
      assert.deepEqual(kept(head, lines), lines);
      assert.equal(body, 'hello');
    });
  }

  for (const count of [600, 1_000, 1_100, 1_500, 2_500]) {
    test(`all arrive, or the request returns 431: ${count}`, BOUNDED, async (t) => {
      const lines = linesOf(count);
      const { app, response } = await sendLines(t, lines);
      if (response.status === 431) {
        assert.ok(hasConnectionClose(response));
        assert.equal(app.received(), '');
        return;
      }
      const [head = '', body] = app.received().split('\r\n\r\n');
      assert.deepEqual(
        [summaryOf(response), kept(head, lines).length, body],
        ['200 ok', count, 'hello'],
      );
    });
  }

  test('never hide the length: the body never counts as a request', BOUNDED, async (t) => {
    const smuggled = get('/smuggled');
    const length = `Content-Length: ${smuggled.length}`;
    const app = await serveHeadApp(t);
    const { ports } = await startTestSidecar(t, app.port);
    const client = await openClient(t, ports.public);
    const last = get('/last', 'Connection: close');
    client.send(requestText('POST', '/', ...linesOf(1_500), length) + smuggled + last);
    const { responses } = await untilEnded(client);
    const heads = app.received().match(/^(?:GET|POST) .* HTTP\/1\.1$/gm) ?? [];
    if (responses[0]?.status === 431) assert.deepEqual(heads, []);
    else
      assert.match(
        app.received(),
        new RegExp(`\\r\\n${length}\\r\\n(?:.+\\r\\n)*\\r\\n${smuggled}`),
      );
  });

  test('never hide the X-Forwarded-For of the edge', BOUNDED, async (t) => {
    const lines = linesOf(1_500);
    const { app, response } = await sendLines(t, [...lines, 'X-Forwarded-For: 192.0.2.7']);
    const forwardedFor = /^X-Forwarded-For: .*$/gim.exec(app.received())?.[0];
    if (response.status === 431) assert.equal(app.received(), '');
    else assert.equal(forwardedFor, 'X-Forwarded-For: 192.0.2.7');
  });
});

describe('a request head with too many lines', () => {
  test('returns 431, and the next request does not reach the app', BOUNDED, async (t) => {
    const app = await serveHeadApp(t);
    const sidecar = await startTestSidecar(t, app.port);
    const client = await openClient(t, sidecar.ports.public);
    client.send(get('/', ...linesOf(3_500)) + get('/smuggled'));
    const { responses, rest } = await untilEnded(client);
    await untilArrived(sidecar);
    assert.deepEqual([responses.map(({ status }) => status), rest], [[431], '']);
    assert.ok(responses[0] && hasConnectionClose(responses[0]));
    assert.equal(app.received(), '');
  });
});

describe('the lines of a response head', () => {
  async function receiveLines(
    t: TestContext,
    lines: readonly string[],
  ): Promise<{ response: ReceivedResponse; head: string }> {
    const response = `HTTP/1.1 200 OK\r\n${lines.join('\r\n')}\r\nContent-Length: 2\r\n\r\nok`;
    const app = await serveHeadApp(t, response);
    const { ports } = await startTestSidecar(t, app.port);
    const client = await openClient(t, ports.public);
    client.send(get('/'));
    const [received] = await untilResponses(client, 1);
    assert.ok(received);
    return { response: received, head: client.received().split('\r\n\r\n')[0] ?? '' };
  }

  test('arrive in order and case: 400 lines, and 400 cookies', BOUNDED, async (t) => {
    const cookies = Array.from({ length: 400 }, (_, i) => `Set-Cookie: c${i}=${i}`);
    for (const lines of [linesOf(400), cookies]) {
      const { response, head } = await receiveLines(t, lines);
      assert.equal(summaryOf(response), '200 ok');
      assert.deepEqual(kept(head, lines), lines);
    }
  });

  test('all arrive, or the response becomes a 502: 1,500', BOUNDED, async (t) => {
    const lines = linesOf(1_500);
    const { response, head } = await receiveLines(t, lines);
    if (response.status === 502) return;
    assert.equal(summaryOf(response), '200 ok');
    assert.equal(kept(head, lines).length, lines.length);
  });
});
