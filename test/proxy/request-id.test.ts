import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { requestIdIn } from '../../src/proxy/local-response.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { ASK_PATH } from '../../src/fleet/messages.ts';
import { keyOf } from '../support/ids.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

// prettier-ignore
const BODIES: readonly (readonly [claim: string, body: string, id: string | number | undefined])[] = [
  ['a number', '{"jsonrpc":"2.0","id":7,"method":"tools/call"}', 7],
  ['zero', '{"id":0,"method":"a"}', 0],
  ['a text', '{"method":"a","id":"x-1"}', 'x-1'],
  ['an empty text', '{"method":"a","id":""}', ''],
  ['none in a notification', '{"method":"notifications/initialized"}', undefined],
  ['null is none', '{"method":"a","id":null}', undefined],
  ['none in a batch', '[{"method":"a","id":1}]', undefined],
  ['none in the answer to a request of the app', '{"id":1,"result":{}}', undefined],
  ['a number beyond what can be told from its neighbours', '{"method":"a","id":9007199254740993}', undefined],
  ['a fraction', '{"method":"a","id":1.5}', undefined],
  ['an object', '{"method":"a","id":{}}', undefined],
  ['none in what is cut off', '{"method":"a","id":1', undefined],
  ['none in other text', 'hello', undefined],
  ['none in a text of JSON', '"hello"', undefined],
  ['none in nothing', '', undefined],
];
for (const [claim, body, id] of BODIES) {
  test(`the id of a JSON-RPC request: ${claim}`, () => {
    assert.equal(requestIdIn(Buffer.from(body)), id);
  });
}

test('the id of a JSON-RPC request: none in what is no UTF-8', () => {
  assert.equal(requestIdIn(Buffer.from('{"method":"a","id":"\xff"}', 'latin1')), undefined);
});

describe('a refused request of MCP', () => {
  const CALL = '{"jsonrpc":"2.0","id":"call-7","method":"tools/call"}';
  const NEXT = 'GET /next HTTP/1.1\r\nHost: a\r\n\r\n';

  interface Refusing {
    readonly client: RawClient;
    readonly clock: TestClock;
    readonly seen: string[];
  }

  /** A sidecar that refuses every session it does not know. */
  async function startRefusing(t: TestContext): Promise<Refusing> {
    const seen: string[] = [];
    const appPort = await serveApp(t, (req, res) => {
      seen.push(req.url ?? '');
      res.end('from the app');
    });
    const clock = createTestClock();
    const env = { UNKNOWN_SESSION: 'reject' };
    const { ports } = await startTestSidecar(t, appPort, env, { clock });
    const client = await openRawClient(ports.public);
    t.after(() => client.socket.destroy());
    return { client, clock, seen };
  }

  const head = (...lines: string[]): string =>
    ['POST /mcp HTTP/1.1', 'Host: a', 'Mcp-Session-Id: unknown', ...lines, '', ''].join('\r\n');
  /** Returns once the sidecar waits for the rest of the body. */
  async function sendAndWait({ client, clock }: Refusing, text: string): Promise<void> {
    const before = clock.pendingCount();
    client.send(text);
    while (clock.pendingCount() === before) await clock.advance(0);
  }
  const isAnswered = (text: string): boolean => /^HTTP\/1\.1 404 [^]*"id":[^]*\}/.test(text);
  const isFollowed = (text: string): boolean => text.endsWith('from the app');

  test('is told so by its own id, and its connection goes on', async (t) => {
    const { client, seen } = await startRefusing(t);
    client.send(head(`Content-Length: ${CALL.length}`) + CALL + NEXT);
    const text = await client.until(isFollowed);
    assert.match(text, /^HTTP\/1\.1 404 Not Found\r\n/);
    assert.match(
      text,
      /\r\n\r\n\{"jsonrpc":"2\.0","error":\{"code":-32001,"message":"Session not found"\},"id":"call-7"\}/,
    );
    assert.deepEqual(seen, ['/next']);
  });

  test('is read in pieces and in chunks', async (t) => {
    const refusing = await startRefusing(t);
    await sendAndWait(refusing, head('Transfer-Encoding: chunked') + '8\r\n{"id":7,\r\n');
    refusing.client.send('d\r\n"method":"a"}\r\n0\r\n\r\n');
    assert.match(await refusing.client.until(isAnswered), /"id":7\}/);
  });

  test('names no id if its body is longer than 16 KB, and its connection goes on', async (t) => {
    const { client } = await startRefusing(t);
    const body = CALL.replace('}', `,"x":"${'x'.repeat(200_000)}"}`);
    client.send(head(`Content-Length: ${body.length}`) + body + NEXT);
    assert.match(await client.until(isFollowed), /"id":null\}/);
  });

  test('names no id if its body does not come in time, and its connection goes on', async (t) => {
    const refusing = await startRefusing(t);
    const { client, clock } = refusing;
    await sendAndWait(refusing, head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    await clock.advance(1_000);
    assert.match(await client.until(isAnswered), /"id":null\}/);
    client.send(CALL.slice(20) + NEXT);
    await client.until(isFollowed);
  });

  test('names no id if it waits to be told to send its body', async (t) => {
    const { client } = await startRefusing(t);
    client.send(head(`Content-Length: ${CALL.length}`, 'Expect: 100-continue'));
    const text = await client.untilClosed();
    assert.match(text, /^HTTP\/1\.1 404 /);
    assert.match(text, /"id":null\}$/);
  });

  test('without a body, such as the opening of a stream, is a 404 at once', async (t) => {
    const { client } = await startRefusing(t);
    client.send(
      'GET /mcp HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nMcp-Session-Id: unknown\r\n\r\n',
    );
    assert.match(await client.until(isAnswered), /"id":null\}/);
  });

  test('whose body is no HTTP is answered once, with 400', async (t) => {
    const refusing = await startRefusing(t);
    await sendAndWait(refusing, head('Transfer-Encoding: chunked') + '8\r\n{"id":7,\r\n');
    refusing.client.send('zz\r\n');
    const text = await refusing.client.untilClosed();
    assert.match(text, /^HTTP\/1\.1 400 /);
    assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1);
  });

  test('whose client leaves in the middle leaves nothing behind', async (t) => {
    const refusing = await startRefusing(t);
    const { client, clock } = refusing;
    const before = clock.pendingCount();
    await sendAndWait(refusing, head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    client.socket.destroy();
    // The timer of the client's connection is gone, too.
    while (clock.pendingCount() >= before) await clock.advance(0);
    assert.equal(clock.pendingCount(), before - 1);
  });

  test('whose client has left while its owner was looked for is not read any more', async (t) => {
    const asked = Promise.withResolvers<ServerResponse>();
    const peerPort = await serveApp(t, (req, res) => {
      if (req.url === ASK_PATH) asked.resolve(res);
      else res.writeHead(404).end();
    });
    const appPort = await serveApp(t, (_req, res) => res.end());
    const clock = createTestClock();
    const left = Promise.withResolvers<undefined>();
    const answered = Promise.withResolvers<string>();
    const metrics = {
      ...nullMetrics,
      responseSent: () => left.resolve(undefined),
      requestDecided: () => assert.fail('nobody is left to decide for'),
      peerQuery: (outcome: string) => answered.resolve(outcome),
    };
    const env = { UNKNOWN_SESSION: 'reject', FLEET: `m2@127.0.0.1:${peerPort}` };
    const { ports } = await startTestSidecar(t, appPort, env, { clock, metrics });
    const client = await openRawClient(ports.public);
    const before = clock.pendingCount();
    client.send(head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    const answer = await asked.promise;
    client.socket.destroy();
    await left.promise;
    const key = keyOf('unknown');
    answer.end(JSON.stringify({ machine: 'm2', answers: { [key]: 'no' } }));
    assert.equal(await answered.promise, 'none');
    await clock.advance(0);
    // The timer of the client's connection is gone, too.
    assert.equal(clock.pendingCount(), before - 1);
  });
});
