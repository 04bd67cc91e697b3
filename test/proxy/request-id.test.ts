import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { requestIdIn } from '../../src/proxy/sidecar-response.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { BINDINGS_PATH } from '../../src/fleet/join/reader.ts';
import { ASK_PATH } from '../../src/fleet/messages.ts';
import { keyOf } from '../support/ids.ts';
import { openClient, openRawClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

// prettier-ignore
const BODIES: readonly (readonly [claim: string, body: string, id: string | number | undefined])[] = [
  ['a number', '{"jsonrpc":"2.0","id":7,"method":"tools/call"}', 7],
  ['zero', '{"id":0,"method":"a"}', 0],
  ['a string', '{"method":"a","id":"x-1"}', 'x-1'],
  ['an empty string', '{"method":"a","id":""}', ''],
  ['none in a notification', '{"method":"notifications/initialized"}', undefined],
  ['null is none', '{"method":"a","id":null}', undefined],
  ['none in a batch', '[{"method":"a","id":1}]', undefined],
  ['none in the response to a request of the app', '{"id":1,"result":{}}', undefined],
  ['a number beyond the safe integers', '{"method":"a","id":9007199254740993}', undefined],
  ['a fraction', '{"method":"a","id":1.5}', undefined],
  ['an object', '{"method":"a","id":{}}', undefined],
  ['none in truncated JSON', '{"method":"a","id":1', undefined],
  ['none in text that is not JSON', 'hello', undefined],
  ['none in a JSON string', '"hello"', undefined],
  ['none in an empty body', '', undefined],
];
for (const [claim, body, id] of BODIES) {
  test(`the id of a JSON-RPC request: ${claim}`, () => {
    assert.equal(requestIdIn(Buffer.from(body)), id);
  });
}

test('the id of a JSON-RPC request: none in invalid UTF-8', () => {
  assert.equal(requestIdIn(Buffer.from('{"method":"a","id":"\xff"}', 'latin1')), undefined);
});

const CALL = '{"jsonrpc":"2.0","id":"call-7","method":"tools/call"}';
const NEXT = 'GET /next HTTP/1.1\r\nHost: a\r\n\r\n';

interface Rejecting {
  readonly client: RawClient;
  readonly clock: TestClock;
  readonly seen: string[];
}

/** A sidecar that rejects every unknown session. */
async function startRejecting(t: TestContext): Promise<Rejecting> {
  const seen: string[] = [];
  const appPort = await serveApp(t, (req, res) => {
    seen.push(req.url ?? '');
    res.end('from the app');
  });
  const clock = createTestClock();
  const env = { UNKNOWN_SESSION: 'reject' };
  const { ports } = await startTestSidecar(t, appPort, env, { clock });
  const client = await openClient(t, ports.public);
  return { client, clock, seen };
}

const head = (...lines: string[]): string =>
  ['POST /mcp HTTP/1.1', 'Host: a', 'Mcp-Session-Id: unknown', ...lines, '', ''].join('\r\n');
/** Resolves when the sidecar waits for the rest of the body. */
async function sendAndWait({ client, clock }: Rejecting, text: string): Promise<void> {
  const before = clock.pendingCount();
  client.send(text);
  while (clock.pendingCount() === before) await clock.advance(0);
}
const hasError = (text: string): boolean => /^HTTP\/1\.1 404 [^]*"id":[^]*\}/.test(text);
const hasNextResponse = (text: string): boolean => text.endsWith('from the app');

describe('a rejected MCP request', () => {
  test('gets an error with its own id, and its connection stays open', async (t) => {
    const { client, seen } = await startRejecting(t);
    client.send(head(`Content-Length: ${CALL.length}`) + CALL + NEXT);
    const text = await client.until(hasNextResponse);
    assert.match(text, /^HTTP\/1\.1 404 Not Found\r\n/);
    assert.match(
      text,
      /\r\n\r\n\{"jsonrpc":"2\.0","error":\{"code":-32001,"message":"Session not found"\},"id":"call-7"\}/,
    );
    assert.deepEqual(seen, ['/next']);
  });

  test('may arrive in pieces and in chunks', async (t) => {
    const rejecting = await startRejecting(t);
    await sendAndWait(rejecting, head('Transfer-Encoding: chunked') + '8\r\n{"id":7,\r\n');
    rejecting.client.send('d\r\n"method":"a"}\r\n0\r\n\r\n');
    assert.match(await rejecting.client.until(hasError), /"id":7\}/);
  });

  test('gets an error with a null id if its body is longer than 16 KB, and its connection stays open', async (t) => {
    const { client } = await startRejecting(t);
    const body = CALL.replace('}', `,"x":"${'x'.repeat(200_000)}"}`);
    client.send(head(`Content-Length: ${body.length}`) + body + NEXT);
    assert.match(await client.until(hasNextResponse), /"id":null\}/);
  });

  test('gets an error with a null id if its body does not arrive in time, and its connection stays open', async (t) => {
    const rejecting = await startRejecting(t);
    const { client, clock } = rejecting;
    await sendAndWait(rejecting, head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    await clock.advance(1_000);
    assert.match(await client.until(hasError), /"id":null\}/);
    client.send(CALL.slice(20) + NEXT);
    await client.until(hasNextResponse);
  });

  test('gets an error with a null id if it waits for 100 Continue', async (t) => {
    const { client } = await startRejecting(t);
    client.send(head(`Content-Length: ${CALL.length}`, 'Expect: 100-continue'));
    const text = await client.untilClosed();
    assert.match(text, /^HTTP\/1\.1 404 /);
    assert.match(text, /"id":null\}$/);
  });

  test('without a body, such as one that opens a stream, gets a 404 at once', async (t) => {
    const { client } = await startRejecting(t);
    client.send(
      'GET /mcp HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nMcp-Session-Id: unknown\r\n\r\n',
    );
    assert.match(await client.until(hasError), /"id":null\}/);
  });
});

describe('a rejected MCP request that never completes', () => {
  test('whose body is malformed gets exactly one response, 400', async (t) => {
    const rejecting = await startRejecting(t);
    await sendAndWait(rejecting, head('Transfer-Encoding: chunked') + '8\r\n{"id":7,\r\n');
    rejecting.client.send('zz\r\n');
    const text = await rejecting.client.untilClosed();
    assert.match(text, /^HTTP\/1\.1 400 /);
    assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1);
  });

  test('whose client disconnects in the middle leaves no timer', async (t) => {
    const rejecting = await startRejecting(t);
    const { client, clock } = rejecting;
    const before = clock.pendingCount();
    await sendAndWait(rejecting, head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    client.socket.destroy();
    // The timer of the client's connection is gone, too.
    while (clock.pendingCount() >= before) await clock.advance(0);
    assert.equal(clock.pendingCount(), before - 1);
  });

  test('whose client disconnects during the owner lookup is not read any further', async (t) => {
    const joined = Promise.withResolvers<undefined>();
    const peerAsked = Promise.withResolvers<ServerResponse>();
    const peerPort = await serveApp(t, (req, res) => {
      if (req.url === BINDINGS_PATH) res.once('close', () => joined.resolve(undefined));
      if (req.url === ASK_PATH) peerAsked.resolve(res);
      else res.writeHead(404).end();
    });
    const appPort = await serveApp(t, (_req, res) => res.end());
    const clock = createTestClock();
    const left = Promise.withResolvers<undefined>();
    const queried = Promise.withResolvers<string>();
    const metrics = {
      ...nullMetrics,
      responseSent: () => left.resolve(undefined),
      requestDecided: () => assert.fail('the client is gone, no decision is needed'),
      peerQuery: (outcome: string) => queried.resolve(outcome),
    };
    const env = { UNKNOWN_SESSION: 'reject', FLEET: `m2@127.0.0.1:${peerPort}` };
    const { ports } = await startTestSidecar(t, appPort, env, { clock, metrics });
    const client = await openRawClient(ports.public);
    // The join at the start has a timer until it has its response.
    await joined.promise;
    for (let turn = 0; turn < 20; turn += 1) await setImmediate();
    const before = clock.pendingCount();
    client.send(head(`Content-Length: ${CALL.length}`) + CALL.slice(0, 20));
    const peerResponse = await peerAsked.promise;
    client.socket.destroy();
    await left.promise;
    const key = keyOf('unknown');
    peerResponse.end(JSON.stringify({ machine: 'm2', answers: { [key]: 'no' } }));
    assert.equal(await queried.promise, 'none');
    await clock.advance(0);
    // The timer of the client's connection is gone, too.
    assert.equal(clock.pendingCount(), before - 1);
  });
});
