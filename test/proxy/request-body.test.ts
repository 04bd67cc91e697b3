import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { collectBody } from '../../src/proxy/request-body.ts';
import { cuts } from '../http/parsing.ts';
import { createExchange } from '../http/client-support.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

/** TCP port service multiplexer, RFC 1078: nobody runs it. */
const DEAD_PORT = 1;
/** How long a sidecar waits for the rest of an upload that it has answered. */
const LINGER_MS = 5_000;
const UPLOAD_HEAD =
  'POST / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m2\r\nTransfer-Encoding: chunked\r\n\r\n';
const PIECE = `10000\r\n${'x'.repeat(0x10000)}\r\n`;

/** An upload under way into a session of a Machine that nobody reaches, which was answered with 503. */
async function uploadInVain(t: TestContext): Promise<{ client: RawClient; clock: TestClock }> {
  const clock = createTestClock();
  const appPort = await serveApp(t, (_request, response) => response.end());
  const fleet = { FLEET: `m2@127.0.0.1:${DEAD_PORT}` };
  const { ports } = await startTestSidecar(t, appPort, fleet, { clock });
  const client = await openRawClient(ports.public);
  t.after(() => client.socket.destroy());
  client.send(UPLOAD_HEAD + PIECE);
  await client.until((received) => received.startsWith('HTTP/1.1 503'));
  return { client, clock };
}

test('a client that leaves its upload after its forward has failed ends nothing else', async (t) => {
  const { client, clock } = await uploadInVain(t);
  client.socket.destroy();
  // Until the sidecar closes what is left of it. An error that nobody listens to ends the process.
  await clock.advance(LINGER_MS);
});

test('the connection of an upload whose forward has failed stays in step', async (t) => {
  const { client } = await uploadInVain(t);
  client.send(`${PIECE.repeat(16)}0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n`);
  const received = await client.until((text) => text.includes('HTTP/1.1 200'));
  assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 2);
});

const MAX_BYTES = 10;
const TIMEOUT_MS = 1_000;

interface Collecting {
  readonly exchange: IncomingRequest;
  readonly clock: TestClock;
  /** What it was called with. */
  readonly bodies: string[];
  readonly goneCount: () => number;
  readonly collect: () => void;
}

/** A request of this framing, whose body the test delivers. */
function startCollecting(t: TestContext, framing: string): Collecting {
  const exchange = createExchange(t, `POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`);
  const clock = createTestClock();
  const bodies: string[] = [];
  let gone = 0;
  const collect = (): void =>
    collectBody(
      exchange,
      { maxBytes: MAX_BYTES, timeoutMs: TIMEOUT_MS, clock },
      (body) => bodies.push(typeof body === 'string' ? body : `<${body.toString('latin1')}>`),
      () => (gone += 1),
    );
  return { exchange, clock, bodies, goneCount: () => gone, collect };
}

describe('a body that the sidecar reads itself', () => {
  const FRAMED: readonly (readonly [framing: string, text: string, body: string])[] = [
    ['Content-Length: 5', 'hello', 'hello'],
    ['Content-Length: 10', '0123456789', '0123456789'],
    ['Transfer-Encoding: chunked', '3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-A: b\r\n\r\n', 'hello'],
    ['Transfer-Encoding: chunked', '0\r\n\r\n', ''],
    ['Transfer-Encoding: chunked', 'A\r\n0123456789\r\n0\r\n\r\n', '0123456789'],
  ];
  for (const [framing, text, body] of FRAMED) {
    test(`is handed over once, decoded, wherever it is cut and whatever came before: ${JSON.stringify(text)}`, (t) => {
      for (const pieces of cuts(text)) {
        for (let early = 0; early <= pieces.length; early += 1) {
          const { exchange, clock, bodies, goneCount, collect } = startCollecting(t, framing);
          for (const piece of pieces.slice(0, early)) exchange.deliver(Buffer.from(piece));
          if (early === pieces.length) exchange.deliverEnd();
          collect();
          for (const piece of pieces.slice(early)) exchange.deliver(Buffer.from(piece));
          if (early < pieces.length) exchange.deliverEnd();
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
    test(`is too long with one byte more than allowed, ${name}`, (t) => {
      const { exchange, clock, bodies, collect } = startCollecting(t, framing);
      exchange.deliver(Buffer.from(pieces[0]));
      collect();
      assert.deepEqual(bodies, []);
      exchange.deliver(Buffer.from(pieces[1]));
      exchange.deliver(Buffer.from('more'));
      exchange.deliverEnd();
      assert.deepEqual([bodies, clock.pendingCount()], [['too-long'], 0]);
    });
  }

  test('is late if it has not come whole in time, and is not called again', async (t) => {
    const { exchange, clock, bodies, goneCount, collect } = startCollecting(t, 'Content-Length: 5');
    collect();
    await clock.advance(TIMEOUT_MS - 1);
    exchange.deliver(Buffer.from('hell'));
    assert.deepEqual(bodies, []);
    await clock.advance(1);
    exchange.deliver(Buffer.from('o'));
    exchange.deliverEnd();
    exchange.deliverGone();
    assert.deepEqual([bodies, goneCount(), clock.pendingCount()], [['late'], 0, 0]);
  });

  test('is broken if it is not framed as its head says, early or late', (t) => {
    for (const isEarly of [true, false]) {
      const chunked = startCollecting(t, 'Transfer-Encoding: chunked');
      if (isEarly) chunked.exchange.deliver(Buffer.from('zz'));
      chunked.collect();
      if (!isEarly) chunked.exchange.deliver(Buffer.from('zz'));
      assert.deepEqual([chunked.bodies, chunked.clock.pendingCount()], [['broken'], 0]);
    }
    const told = startCollecting(t, 'Content-Length: 5');
    told.collect();
    told.exchange.deliverBroken({ status: 408, reason: 'the body stopped arriving' });
    assert.deepEqual([told.bodies, told.clock.pendingCount()], [['broken'], 0]);
  });

  test('of a client that leaves is waited for no more', async (t) => {
    const { exchange, clock, bodies, goneCount, collect } = startCollecting(t, 'Content-Length: 5');
    collect();
    exchange.deliver(Buffer.from('he'));
    exchange.deliverGone();
    await clock.advance(10 * TIMEOUT_MS);
    assert.deepEqual([bodies, goneCount(), clock.pendingCount()], [[], 1, 0]);
  });
});
