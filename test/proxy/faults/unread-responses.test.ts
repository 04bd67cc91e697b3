/**
 * A client that pipelines requests and reads no response filled the memory with responses, until every
 * other client got a 503. The next request waits until the client reads.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { get, startListener } from '../../http/client-support.ts';
import { eventually } from '../../http/support.ts';
import { createTestClock } from '../../support/clock.ts';
import { BOUNDED } from './support.ts';

const BODY = 'b'.repeat(60_000);
/** More responses than the socket buffers hold. */
const COUNT = 500;
const TURNS = 2 * COUNT;
const WAITING_BYTES = 65_536;

test('a request waits until the client has read the responses before it', BOUNDED, async (t) => {
  const waiting: number[] = [];
  const { connect, sockets } = await startListener(t, (request) => {
    waiting.push(sockets[0]?.writableLength ?? 0);
    request.respond({ status: 200, headers: [], body: BODY });
  });
  const client = await connect();
  client.socket.pause();
  client.send(get('/').repeat(COUNT));
  await eventually(() => (sockets[0]?.writableLength ?? 0) > 0);
  for (let i = 0; i < TURNS; i += 1) await nextTurn();
  assert.ok(waiting.length < COUNT);
  client.socket.resume();
  const response = `HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`;
  const received = await client.until((text) => text.length >= COUNT * response.length);
  assert.ok(received === response.repeat(COUNT));
  assert.ok(Math.max(...waiting) < WAITING_BYTES);
});

test(
  'a client that never reads its responses is disconnected after the stall timeout',
  BOUNDED,
  async (t) => {
    const clock = createTestClock();
    const { connect, sockets, sweep } = await startListener(
      t,
      (request) => request.respond({ status: 200, headers: [], body: BODY }),
      { clock, limits: { stallTimeoutMs: 1_000 } },
    );
    const client = await connect();
    client.socket.pause();
    client.send(get('/').repeat(COUNT));
    const [socket] = sockets;
    assert.ok(socket);
    await eventually(() => socket.writableLength >= WAITING_BYTES);
    for (let i = 0; i < TURNS; i += 1) await nextTurn();
    await clock.advance(3_000);
    if (!socket.closed) await once(socket, 'close');
    assert.equal(sweep.size, 0);
  },
);

test('interim responses are dropped if the client does not read', BOUNDED, async (t) => {
  const interim = `HTTP/1.1 103 Early Hints\r\nX-A: ${'a'.repeat(30_000)}\r\n\r\n`;
  const { connect, sockets } = await startListener(t, (request) => {
    for (let i = 0; i < COUNT; i += 1) request.writeInterim(interim);
    request.respond({ status: 200, headers: [], body: 'done' });
  });
  const client = await connect();
  client.socket.pause();
  client.send(get('/'));
  await eventually(() => (sockets[0]?.writableLength ?? 0) > 0);
  assert.ok((sockets[0]?.writableLength ?? 0) < 2 * WAITING_BYTES);
  client.socket.resume();
  assert.match(await client.until((text) => text.endsWith('done')), /^HTTP\/1\.1 103 /);
});
