import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
import { startFullListener } from '../support/full-listener.ts';
import {
  responding,
  untilReusable,
  eventually,
  sendRequest,
  GET,
  onHeads,
  openUpstream,
  Recorder,
  startRawServer,
  transcript,
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
/** The sweep may be this much late, in ms. It is never early. */
const LATE_MS = 500;

test('sequential requests share a connection', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  for (let i = 0; i < 5; i += 1) await sendRequest(upstream);
  assert.equal(sockets.length, 1);
});

test('concurrent requests have a connection each', async (t) => {
  const waiting: Socket[] = [];
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      waiting.push(socket);
      if (waiting.length === 50) waiting.splice(0).forEach((one) => one.write(DONE));
    });
  });
  const upstream = openUpstream(t, port);
  const first = await Promise.all(Array.from({ length: 50 }, () => sendRequest(upstream)));
  const second = await Promise.all(Array.from({ length: 50 }, () => sendRequest(upstream)));
  assert.ok([...first, ...second].every(({ text }) => text === 'ok'));
  assert.equal(sockets.length, 50);
});

test('the most recently used connection is used next', async (t) => {
  const served: number[] = [];
  const { port } = await startRawServer(t, (socket, index) => {
    onHeads(socket, () => {
      served.push(index);
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await Promise.all([sendRequest(upstream), sendRequest(upstream), sendRequest(upstream)]);
  const last = served.at(-1);
  served.length = 0;
  for (let i = 0; i < 4; i += 1) await sendRequest(upstream);
  assert.deepEqual(served, [last, last, last, last]);
});

test('a request sent from onResponseEnd does not use the same connection', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  const [first, second] = [new Recorder(), new Recorder()];
  first.onCall = (name) => {
    if (name === 'end') upstream.send(GET, second);
  };
  upstream.send(GET, first);
  await eventually(() => second.isOver);
  assert.deepEqual([second.calls, sockets.length], [['head', 'body', 'end'], 2]);
});

for (const [name, response] of [
  ['Connection: close', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'],
  ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
  [
    'Keep-Alive of one second, less the margin',
    'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok',
  ],
] as const) {
  test(`a connection is not reused after ${name}`, async (t) => {
    const { port, sockets } = await startRawServer(t, responding(response));
    const upstream = openUpstream(t, port);
    await sendRequest(upstream);
    await sendRequest(upstream);
    await eventually(() => sockets.every((socket) => socket.readableEnded));
    assert.equal(sockets.length, 2);
  });
}

test('a connection is reused after HTTP/1.0 with keep-alive', async (t) => {
  const response = 'HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok';
  const { port, sockets } = await startRawServer(t, responding(response));
  const upstream = openUpstream(t, port);
  await sendRequest(upstream);
  await sendRequest(upstream);
  assert.equal(sockets.length, 1);
});

const FORGED = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';

test('bytes after the end of a response close the connection', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket, index) => {
    onHeads(socket, () => socket.write(index === 0 ? DONE + FORGED : DONE));
  });
  const upstream = openUpstream(t, port);
  for (let i = 0; i < 2; i += 1) assert.equal((await sendRequest(upstream)).text, 'ok');
  await eventually(() => sockets[0]?.readableEnded === true);
  assert.equal(sockets.length, 2);
});

test('bytes right after a response are not the response to the next request', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  const [first, second] = [new Recorder(), new Recorder()];
  first.onCall = (name) => {
    if (name !== 'end') return;
    // The bytes have arrived, unread, and the next request starts in the same turn.
    sockets[0]?.write(FORGED);
    upstream.send(GET, second);
  };
  upstream.send(GET, first);
  await eventually(() => second.isOver);
  assert.equal(second.text, 'ok');
  await eventually(() => sockets[0]?.readableEnded === true);
});

test('bytes on an idle connection close it', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  await sendRequest(upstream);
  sockets[0]?.write('H');
  await eventually(() => sockets[0]?.readableEnded === true);
  assert.equal((await sendRequest(upstream)).text, 'ok');
  assert.equal(sockets.length, 2);
});

for (const [name, spoil] of [
  ['received a response while idle', (socket?: Socket) => socket?.write(FORGED)],
  ['has ended', (socket?: Socket) => socket?.end()],
  ['was reset', (socket?: Socket) => socket?.resetAndDestroy()],
] as const) {
  test(`an idle connection is checked before use: nothing is sent on one that ${name}`, async (t) => {
    const clock = createTestClock();
    const { port, sockets } = await startRawServer(t, responding(DONE));
    const upstream = openUpstream(t, port, { clock });
    await sendRequest(upstream);
    await clock.advance(250);
    const received = sockets[0]?.bytesRead;
    // It has arrived, unread.
    spoil(sockets[0]);
    const request = { method: 'POST', body: Buffer.from('once') };
    const lost = await sendRequest(upstream, request);
    const failure = { code: 'connection-lost', wasNotSent: true, wasReused: true };
    assert.deepEqual([lost.failure, lost.calls], [failure, ['error']]);
    assert.equal(sockets[0]?.bytesRead, received);
    assert.equal((await sendRequest(upstream, request)).text, 'ok');
    assert.equal(sockets.length, 2);
  });
}

test('an idle connection that the server ends is dropped', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  for (const ending of ['end', 'resetAndDestroy'] as const) {
    await sendRequest(upstream);
    sockets.at(-1)?.[ending]();
    await eventually(
      () => sockets.at(-1)?.destroyed === true || sockets.at(-1)?.readableEnded === true,
    );
    await untilReusable();
  }
  assert.equal((await sendRequest(upstream)).text, 'ok');
  assert.equal(sockets.length, 3);
});

test('the error tells whether a lost connection was reused or new', async (t) => {
  const { port } = await startRawServer(t, (socket, index) => {
    let count = 0;
    onHeads(socket, () => {
      count += 1;
      if (index === 1 || count === 2) socket.end();
      else socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await sendRequest(upstream);
  const failures = [await sendRequest(upstream), await sendRequest(upstream)].map(
    ({ failure }) => failure,
  );
  assert.deepEqual(failures, [
    { code: 'connection-lost', wasNotSent: false, wasReused: true },
    { code: 'connection-lost', wasNotSent: false, wasReused: false },
  ]);
});

test('after a lost connection, the other idle ones are checked before use', async (t) => {
  let isRestarting = false;
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      if (isRestarting) socket.resetAndDestroy();
      else socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await Promise.all(Array.from({ length: 10 }, () => sendRequest(upstream)));
  isRestarting = true;
  const [first, second] = [new Recorder(), new Recorder()];
  first.onCall = (name) => {
    if (name !== 'error') return;
    isRestarting = false;
    // Their RST has arrived, unread.
    for (const socket of sockets) socket.resetAndDestroy();
    upstream.send(GET, second);
  };
  upstream.send(GET, first);
  await eventually(() => second.isOver);
  const lost = { code: 'connection-lost', wasReused: true };
  assert.deepEqual(
    [first.failure, second.failure],
    [
      { ...lost, wasNotSent: false },
      { ...lost, wasNotSent: true },
    ],
  );
  assert.equal((await sendRequest(upstream)).text, 'ok');
});

test('idle connections are closed after the keep-alive time, by one shared timer', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { clock, keepAliveMs: 4_000 });
  await Promise.all([sendRequest(upstream), sendRequest(upstream)]);
  assert.equal(clock.pendingCount(), 1);
  await clock.advance(3_999);
  assert.ok(sockets.every((socket) => !socket.readableEnded));
  await clock.advance(1_001);
  await eventually(() => sockets.every((socket) => socket.readableEnded));
  assert.equal(clock.pendingCount(), 0);
});

test('an expired connection is never used, even before the timer fires', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { clock, keepAliveMs: 500 });
  await sendRequest(upstream);
  await clock.advance(499);
  await sendRequest(upstream);
  assert.equal(sockets.length, 1);
  await clock.advance(500);
  await sendRequest(upstream);
  assert.equal(sockets.length, 2);
});

test('the Keep-Alive timeout of the server applies, less one second and up to 60 seconds', async (t) => {
  for (const [keepAlive, keepAliveMs] of [
    ['timeout=2', 1_000],
    ['max=5, timeout=10', 9_000],
    ['timeout=99999', 60_000],
    ['max=5', 4_000],
    ['xtimeout=10', 4_000],
  ] as const) {
    const clock = createTestClock();
    const response = `HTTP/1.1 200 OK\r\nKeep-Alive: ${keepAlive}\r\nContent-Length: 2\r\n\r\nok`;
    const { port, sockets } = await startRawServer(t, responding(response));
    const upstream = openUpstream(t, port, { clock });
    await sendRequest(upstream);
    await clock.advance(keepAliveMs - 1);
    await sendRequest(upstream);
    assert.equal(sockets.length, 1, keepAlive);
    await clock.advance(keepAliveMs);
    await sendRequest(upstream);
    assert.equal(sockets.length, 2, keepAlive);
  }
});

test('a request to a closed port fails without being sent, and so does the next', async (t) => {
  const { port, close } = await startRawServer(t, () => undefined);
  await close();
  for (const host of ['127.0.0.1', 'localhost']) {
    const upstream = openUpstream(t, port, { host });
    for (let i = 0; i < 2; i += 1) {
      const recorder = await sendRequest(upstream);
      const failure = { code: 'connect-failed', wasNotSent: true, wasReused: false };
      assert.deepEqual([recorder.failure, recorder.calls], [failure, ['error']]);
      assert.match(recorder.error?.message ?? '', /ECONNREFUSED/);
    }
  }
});

test('localhost is reached at any of its addresses', async (t) => {
  const { port } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { host: 'localhost' });
  assert.equal((await sendRequest(upstream)).text, 'ok');
});

test('a request without a known address fails without being sent', async (t) => {
  const upstream = openUpstream(t, 0, { address: () => undefined });
  const failure = { code: 'connect-failed', wasNotSent: true, wasReused: false };
  assert.deepEqual((await sendRequest(upstream)).failure, failure);
});

test('a request over the connection limit fails', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, port, { maxConnections: 2 });
  const waiting = [new Recorder(), new Recorder()];
  for (const recorder of waiting) upstream.send(GET, recorder);
  const failure = { code: 'too-many-connections', wasNotSent: true, wasReused: false };
  assert.deepEqual((await sendRequest(upstream)).failure, failure);
  await eventually(() => sockets.length === 2);
  waiting[0]?.call?.abort();
  await eventually(() => upstream.pool.connectionCount === 1);
  const next = new Recorder();
  upstream.send(GET, next);
  await eventually(() => sockets.length === 3);
  assert.equal(next.isOver, false);
});

test('a connection that is not accepted fails after the connect timeout', async (t) => {
  const clock = createTestClock();
  const port = await startFullListener(t);
  const dialled: string[] = [];
  const upstream = openUpstream(t, port, {
    clock,
    connectTimeoutMs: 5_000,
    onDialled: (outcome) => dialled.push(outcome),
  });
  // The time before the first connection does not count.
  await clock.advance(60_000);
  const recorder = new Recorder();
  upstream.send(GET, recorder);
  await clock.advance(4_999);
  assert.equal(recorder.isOver, false);
  await clock.advance(1 + LATE_MS);
  const failure = { code: 'connect-timeout', wasNotSent: true, wasReused: false };
  assert.deepEqual([recorder.failure, dialled], [failure, ['failed']]);
  await eventually(() => upstream.pool.connectionCount === 0);
  assert.equal(clock.pendingCount(), 0);
});

test('a late response head fails with head-timeout, and a stream has no timeout', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.startsWith('GET /stream')) socket.write('HTTP/1.1 200 OK\r\n\r\nevent');
      else socket.write('HTTP/1.1 102 Processing\r\n\r\n');
    });
  });
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  const stream = new Recorder();
  upstream.send({ ...GET, path: '/stream' }, stream);
  await stream.until(() => stream.chunks.length === 1);
  const slow = new Recorder();
  upstream.send(GET, slow);
  await slow.until(() => slow.interims.length === 1);
  await clock.advance(999);
  assert.equal(slow.isOver, false);
  await clock.advance(1 + LATE_MS);
  assert.deepEqual(slow.failure, { code: 'head-timeout', wasNotSent: false, wasReused: false });
  await clock.advance(1_000_000);
  assert.equal(stream.isOver, false);
  await eventually(() => sockets[1]?.readableEnded === true);
});

test('the connect timeout does not limit an upload', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, port, {
    clock,
    connectTimeoutMs: 5_000,
    headTimeoutMs: 1_000,
  });
  const recorder = new Recorder();
  const body = new PassThrough();
  upstream.send({ ...GET, method: 'POST', headers: [], body }, recorder);
  await eventually(() => recorder.call?.wasSent === true);
  await clock.advance(100_000);
  assert.equal(recorder.isOver, false);
  body.end();
  await once(body, 'end');
  await clock.advance(1_000 + LATE_MS);
  assert.equal(recorder.errorCode, 'head-timeout');
});

test('a server that stops reading an upload fails with head-timeout', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, (socket) => socket.pause());
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  const recorder = new Recorder();
  const body = new Readable({
    read() {
      this.push(Buffer.alloc(1_000_000));
    },
  });
  upstream.send({ ...GET, method: 'POST', headers: [], body }, recorder);
  await eventually(() => body.isPaused() && clock.pendingCount() === 1);
  await clock.advance(999);
  assert.equal(recorder.isOver, false);
  await clock.advance(1 + LATE_MS);
  assert.equal(recorder.errorCode, 'head-timeout');
});

test('an upload may continue after the response head, without a timeout', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
  });
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  const recorder = new Recorder();
  const body = new PassThrough();
  upstream.send({ ...GET, method: 'POST', headers: [], body }, recorder);
  await recorder.until(() => recorder.statusCode === 200);
  body.end('more');
  await once(body, 'end');
  await clock.advance(1_000_000);
  assert.equal(recorder.isOver, false);
  sockets[0]?.end();
  await recorder.over();
  assert.equal(recorder.calls.at(-1), 'end');
});

test('one timer serves all timeouts of all connections', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  const recorders = [new Recorder(), new Recorder(), new Recorder()];
  for (const recorder of recorders) upstream.send(GET, recorder);
  await eventually(() => recorders.every(({ call }) => call?.wasSent === true));
  assert.equal(clock.pendingCount(), 1);
  await upstream.close();
  assert.equal(clock.pendingCount(), 0);
});
