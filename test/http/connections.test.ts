import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
import { startFullListener } from '../support/full-listener.ts';
import {
  responding,
  cooled,
  eventually,
  exchange,
  GET,
  onHeads,
  openUpstream,
  Recorder,
  startRawServer,
  transcript,
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
/** What the sweep may be late by, in ms; it is never early. */
const LATE_MS = 500;

test('requests one after the other share a connection', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  for (let i = 0; i < 5; i += 1) await exchange(upstream);
  assert.equal(sockets.length, 1);
});

test('requests at the same time have a connection each, and never wait for another', async (t) => {
  const waiting: Socket[] = [];
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      waiting.push(socket);
      if (waiting.length === 50) waiting.splice(0).forEach((one) => one.write(DONE));
    });
  });
  const upstream = openUpstream(t, port);
  const first = await Promise.all(Array.from({ length: 50 }, () => exchange(upstream)));
  const second = await Promise.all(Array.from({ length: 50 }, () => exchange(upstream)));
  assert.ok([...first, ...second].every(({ text }) => text === 'ok'));
  assert.equal(sockets.length, 50);
});

test('the connection that was used last is used next', async (t) => {
  const served: number[] = [];
  const { port } = await startRawServer(t, (socket, index) => {
    onHeads(socket, () => {
      served.push(index);
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await Promise.all([exchange(upstream), exchange(upstream), exchange(upstream)]);
  const last = served.at(-1);
  served.length = 0;
  for (let i = 0; i < 4; i += 1) await exchange(upstream);
  assert.deepEqual(served, [last, last, last, last]);
});

test('a request sent from within the end of a response does not share its connection yet', async (t) => {
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
    'Keep-Alive of a second, less the margin',
    'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok',
  ],
] as const) {
  test(`a connection is not used again after ${name}`, async (t) => {
    const { port, sockets } = await startRawServer(t, responding(response));
    const upstream = openUpstream(t, port);
    await exchange(upstream);
    await exchange(upstream);
    await eventually(() => sockets.every((socket) => socket.readableEnded));
    assert.equal(sockets.length, 2);
  });
}

test('a connection is used again after HTTP/1.0 with keep-alive', async (t) => {
  const response = 'HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok';
  const { port, sockets } = await startRawServer(t, responding(response));
  const upstream = openUpstream(t, port);
  await exchange(upstream);
  await exchange(upstream);
  assert.equal(sockets.length, 1);
});

const FORGED = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';

test('bytes after the end of a response end the connection: they respond to nobody', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket, index) => {
    onHeads(socket, () => socket.write(index === 0 ? DONE + FORGED : DONE));
  });
  const upstream = openUpstream(t, port);
  for (let i = 0; i < 2; i += 1) assert.equal((await exchange(upstream)).text, 'ok');
  await eventually(() => sockets[0]?.readableEnded === true);
  assert.equal(sockets.length, 2);
});

test('bytes that come right after a response are not that to the next request', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  const [first, second] = [new Recorder(), new Recorder()];
  first.onCall = (name) => {
    if (name !== 'end') return;
    // They are with us now, unread; and the next request comes in the same turn.
    sockets[0]?.write(FORGED);
    upstream.send(GET, second);
  };
  upstream.send(GET, first);
  await eventually(() => second.isOver);
  assert.equal(second.text, 'ok');
  await eventually(() => sockets[0]?.readableEnded === true);
});

test('bytes on an idle connection end it', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  await exchange(upstream);
  sockets[0]?.write('H');
  await eventually(() => sockets[0]?.readableEnded === true);
  assert.equal((await exchange(upstream)).text, 'ok');
  assert.equal(sockets.length, 2);
});

for (const [name, spoil] of [
  ['was sent a response before it was used', (socket?: Socket) => socket?.write(FORGED)],
  ['has ended', (socket?: Socket) => socket?.end()],
  ['was reset', (socket?: Socket) => socket?.resetAndDestroy()],
] as const) {
  test(`a connection that had been idle is looked at before it is used: nothing is sent on one that ${name}`, async (t) => {
    const clock = createTestClock();
    const { port, sockets } = await startRawServer(t, responding(DONE));
    const upstream = openUpstream(t, port, { clock });
    await exchange(upstream);
    await clock.advance(250);
    const received = sockets[0]?.bytesRead;
    // It is with us now, unread.
    spoil(sockets[0]);
    const request = { method: 'POST', body: Buffer.from('once') };
    const lost = await exchange(upstream, request);
    const failure = { code: 'connection-lost', wasNotSent: true, wasReused: true };
    assert.deepEqual([lost.failure, lost.calls], [failure, ['error']]);
    assert.equal(sockets[0]?.bytesRead, received);
    assert.equal((await exchange(upstream, request)).text, 'ok');
    assert.equal(sockets.length, 2);
  });
}

test('an idle connection that the server ends is dropped', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  for (const ending of ['end', 'resetAndDestroy'] as const) {
    await exchange(upstream);
    sockets.at(-1)?.[ending]();
    await eventually(
      () => sockets.at(-1)?.destroyed === true || sockets.at(-1)?.readableEnded === true,
    );
    await cooled();
  }
  assert.equal((await exchange(upstream)).text, 'ok');
  assert.equal(sockets.length, 3);
});

test('a loss on a connection that had served before is told apart from one on a new one', async (t) => {
  const { port } = await startRawServer(t, (socket, index) => {
    let count = 0;
    onHeads(socket, () => {
      count += 1;
      if (index === 1 || count === 2) socket.end();
      else socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await exchange(upstream);
  const failures = [await exchange(upstream), await exchange(upstream)].map(
    ({ failure }) => failure,
  );
  assert.deepEqual(failures, [
    { code: 'connection-lost', wasNotSent: false, wasReused: true },
    { code: 'connection-lost', wasNotSent: false, wasReused: false },
  ]);
});

test('once a connection was lost, the other idle ones are looked at before one is used', async (t) => {
  let isRestarting = false;
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      if (isRestarting) socket.resetAndDestroy();
      else socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  await Promise.all(Array.from({ length: 10 }, () => exchange(upstream)));
  isRestarting = true;
  const [first, second] = [new Recorder(), new Recorder()];
  first.onCall = (name) => {
    if (name !== 'error') return;
    isRestarting = false;
    // They have ended, and that is with us, unread.
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
  assert.equal((await exchange(upstream)).text, 'ok');
});

test('an idle connection is closed after its time, by one timer that ends with the last', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { clock, keepAliveMs: 4_000 });
  await Promise.all([exchange(upstream), exchange(upstream)]);
  assert.equal(clock.pendingCount(), 1);
  await clock.advance(3_999);
  assert.ok(sockets.every((socket) => !socket.readableEnded));
  await clock.advance(1_001);
  await eventually(() => sockets.every((socket) => socket.readableEnded));
  assert.equal(clock.pendingCount(), 0);
});

test('a connection past its time is never used, even if no timer has looked at it yet', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { clock, keepAliveMs: 500 });
  await exchange(upstream);
  await clock.advance(499);
  await exchange(upstream);
  assert.equal(sockets.length, 1);
  await clock.advance(500);
  await exchange(upstream);
  assert.equal(sockets.length, 2);
});

test('a server is believed how long it keeps a connection, less a second and within reason', async (t) => {
  for (const [keepAlive, keptMs] of [
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
    await exchange(upstream);
    await clock.advance(keptMs - 1);
    await exchange(upstream);
    assert.equal(sockets.length, 1, keepAlive);
    await clock.advance(keptMs);
    await exchange(upstream);
    assert.equal(sockets.length, 2, keepAlive);
  }
});

test('where nobody listens, a request fails and was not sent; so does the next', async (t) => {
  const { port, close } = await startRawServer(t, () => undefined);
  await close();
  for (const host of ['127.0.0.1', 'localhost']) {
    const upstream = openUpstream(t, port, { host });
    for (let i = 0; i < 2; i += 1) {
      const recorder = await exchange(upstream);
      const failure = { code: 'connect-failed', wasNotSent: true, wasReused: false };
      assert.deepEqual([recorder.failure, recorder.calls], [failure, ['error']]);
      assert.match(recorder.error?.message ?? '', /ECONNREFUSED/);
    }
  }
});

test('localhost is reached whichever of its addresses is listened on', async (t) => {
  const { port } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port, { host: 'localhost' });
  assert.equal((await exchange(upstream)).text, 'ok');
});

test('where no address is known, a request fails and was not sent', async (t) => {
  const upstream = openUpstream(t, 0, { address: () => undefined });
  const failure = { code: 'connect-failed', wasNotSent: true, wasReused: false };
  assert.deepEqual((await exchange(upstream)).failure, failure);
});

test('no more connections are made than allowed, and the request that needs one more fails', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, port, { maxConnections: 2 });
  const waiting = [new Recorder(), new Recorder()];
  for (const recorder of waiting) upstream.send(GET, recorder);
  const failure = { code: 'too-many-connections', wasNotSent: true, wasReused: false };
  assert.deepEqual((await exchange(upstream)).failure, failure);
  await eventually(() => sockets.length === 2);
  waiting[0]?.call?.abort();
  await eventually(() => upstream.pool.connectionCount === 1);
  const next = new Recorder();
  upstream.send(GET, next);
  await eventually(() => sockets.length === 3);
  assert.equal(next.isOver, false);
});

test('a connection that nobody takes is given up after the connect timeout', async (t) => {
  const clock = createTestClock();
  const port = await startFullListener(t);
  const dialled: string[] = [];
  const upstream = openUpstream(t, port, {
    clock,
    connectTimeoutMs: 5_000,
    onDialled: (outcome) => dialled.push(outcome),
  });
  // However long nothing was open before.
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

test('a server that is too slow with its head is given up; a stream may be as slow as it likes', async (t) => {
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

test('a connection that was taken in time has all the time for an upload', async (t) => {
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

test('a server that takes no more of an upload is given up like one that does not respond', async (t) => {
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

test('an upload may go on after the head of its response has come, however long it takes', async (t) => {
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

test('one timer serves every timeout of every connection, and ends with the last of them', async (t) => {
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
