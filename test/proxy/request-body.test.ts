import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { collectBody } from '../../src/proxy/request-body.ts';
import { cuts } from '../http/parsing.ts';
import { createIncomingRequest } from '../http/client-support.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { openClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

/** TCP port service multiplexer (RFC 1078): nothing listens there. */
const DEAD_PORT = 1;
/** How long a sidecar waits for the rest of an upload after its response. */
const LINGER_MS = 5_000;
const UPLOAD_HEAD =
  'POST / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m2\r\nTransfer-Encoding: chunked\r\n\r\n';
const PIECE = `10000\r\n${'x'.repeat(0x10000)}\r\n`;

/** An upload in progress to a session of an unreachable Machine, after the 503 response. */
async function startFailedUpload(t: TestContext): Promise<{ client: RawClient; clock: TestClock }> {
  const clock = createTestClock();
  const appPort = await serveApp(t, (_request, response) => response.end());
  const fleet = { FLEET: `m2@127.0.0.1:${DEAD_PORT}` };
  const { ports } = await startTestSidecar(t, appPort, fleet, { clock });
  const client = await openClient(t, ports.public);
  client.send(UPLOAD_HEAD + PIECE);
  await client.until((received) => received.startsWith('HTTP/1.1 503'));
  return { client, clock };
}

test('a client that aborts its upload after the forward failed does not end the process', async (t) => {
  const { client, clock } = await startFailedUpload(t);
  client.socket.destroy();
  // Until the sidecar closes the connection. An error without a listener would end the process.
  await clock.advance(LINGER_MS);
});

test('the connection of an upload whose forward failed serves the next request', async (t) => {
  const { client } = await startFailedUpload(t);
  client.send(`${PIECE.repeat(16)}0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n`);
  const received = await client.until((text) => text.includes('HTTP/1.1 200'));
  assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 2);
});

const MAX_BYTES = 10;
const TIMEOUT_MS = 1_000;

interface Collecting {
  readonly request: IncomingRequest;
  readonly clock: TestClock;
  /** Arguments of the callback. */
  readonly bodies: string[];
  readonly goneCount: () => number;
  readonly collect: () => void;
}

/** A request with this framing. The test delivers its body. */
function startCollecting(t: TestContext, framing: string): Collecting {
  const request = createIncomingRequest(t, `POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`);
  const clock = createTestClock();
  const bodies: string[] = [];
  let gone = 0;
  const collect = (): void =>
    collectBody(
      request,
      { maxBytes: MAX_BYTES, timeoutMs: TIMEOUT_MS, clock },
      (body) => bodies.push(typeof body === 'string' ? body : `<${body.toString('latin1')}>`),
      () => (gone += 1),
    );
  return { request, clock, bodies, goneCount: () => gone, collect };
}

describe('collectBody', () => {
  const FRAMED: readonly (readonly [framing: string, text: string, body: string])[] = [
    ['Content-Length: 5', 'hello', 'hello'],
    ['Content-Length: 10', '0123456789', '0123456789'],
    ['Transfer-Encoding: chunked', '3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-A: b\r\n\r\n', 'hello'],
    ['Transfer-Encoding: chunked', '0\r\n\r\n', ''],
    ['Transfer-Encoding: chunked', 'A\r\n0123456789\r\n0\r\n\r\n', '0123456789'],
  ];
  for (const [framing, text, body] of FRAMED) {
    test(`returns the decoded body once, for every split and for any part received before: ${JSON.stringify(text)}`, (t) => {
      for (const pieces of cuts(text)) {
        for (let earlyCount = 0; earlyCount <= pieces.length; earlyCount += 1) {
          const { request, clock, bodies, goneCount, collect } = startCollecting(t, framing);
          for (const piece of pieces.slice(0, earlyCount)) request.deliver(Buffer.from(piece));
          if (earlyCount === pieces.length) request.deliverEnd();
          collect();
          for (const piece of pieces.slice(earlyCount)) request.deliver(Buffer.from(piece));
          if (earlyCount < pieces.length) request.deliverEnd();
          assert.deepEqual([bodies, goneCount(), clock.pendingCount()], [[`<${body}>`], 0, 0]);
        }
      }
    });
  }

  for (const [name, framing, pieces] of [
    ['of known length', 'Content-Length: 11', ['01234', '567890']],
    ['in chunks', 'Transfer-Encoding: chunked', ['b\r\n01234', '567890\r\n0\r\n\r\n']],
    ['in many chunks', 'Transfer-Encoding: chunked', ['1\r\na\r\n'.repeat(10), '1\r\na\r\n']],
  ] as const) {
    test(`reports a body of one byte more than allowed as too long, ${name}`, (t) => {
      const { request, clock, bodies, collect } = startCollecting(t, framing);
      request.deliver(Buffer.from(pieces[0]));
      collect();
      assert.deepEqual(bodies, []);
      request.deliver(Buffer.from(pieces[1]));
      request.deliver(Buffer.from('more'));
      request.deliverEnd();
      assert.deepEqual([bodies, clock.pendingCount()], [['too-long'], 0]);
    });
  }

  test('reports an incomplete body as late after the timeout, and calls back only once', async (t) => {
    const { request, clock, bodies, goneCount, collect } = startCollecting(t, 'Content-Length: 5');
    collect();
    await clock.advance(TIMEOUT_MS - 1);
    request.deliver(Buffer.from('hell'));
    assert.deepEqual(bodies, []);
    await clock.advance(1);
    request.deliver(Buffer.from('o'));
    request.deliverEnd();
    request.deliverGone();
    assert.deepEqual([bodies, goneCount(), clock.pendingCount()], [['late'], 0, 0]);
  });

  test('reports a body with malformed framing as broken, received before or after the call', (t) => {
    for (const isEarly of [true, false]) {
      const chunked = startCollecting(t, 'Transfer-Encoding: chunked');
      if (isEarly) chunked.request.deliver(Buffer.from('zz'));
      chunked.collect();
      if (!isEarly) chunked.request.deliver(Buffer.from('zz'));
      assert.deepEqual([chunked.bodies, chunked.clock.pendingCount()], [['broken'], 0]);
    }
    const withLength = startCollecting(t, 'Content-Length: 5');
    withLength.collect();
    withLength.request.deliverBroken({ status: 408, reason: 'the body stopped arriving' });
    assert.deepEqual([withLength.bodies, withLength.clock.pendingCount()], [['broken'], 0]);
  });

  test('stops waiting when the client disconnects', async (t) => {
    const { request, clock, bodies, goneCount, collect } = startCollecting(t, 'Content-Length: 5');
    collect();
    request.deliver(Buffer.from('he'));
    request.deliverGone();
    await clock.advance(10 * TIMEOUT_MS);
    assert.deepEqual([bodies, goneCount(), clock.pendingCount()], [[], 1, 0]);
  });
});
