import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
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
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

test('closing breaks off what is under way, in whatever state, and every receiver is told', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.includes('/idle')) socket.write(DONE);
      if (head.includes('/flowing')) socket.write('HTTP/1.1 200 OK\r\n\r\nhello');
      if (head.includes('/early')) socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  await Promise.all([exchange(upstream, { path: '/idle' }), exchange(upstream, { path: '/idle' })]);
  const flowing = new Recorder();
  upstream.send({ ...GET, path: '/flowing' }, flowing);
  const paused = new Recorder();
  paused.onCall = (name) => {
    if (name === 'head') paused.call?.pause();
  };
  upstream.send({ ...GET, path: '/flowing' }, paused);
  await eventually(() => flowing.text === 'hello' && paused.statusCode === 200);
  const uploading = new Recorder();
  upstream.send({ ...GET, method: 'POST', headers: [], body: new PassThrough() }, uploading);
  const waiting = new Recorder();
  upstream.send(GET, waiting);
  await eventually(() => sockets.length === 4);
  const responded = new Recorder();
  const body = new PassThrough();
  upstream.send({ ...GET, method: 'POST', path: '/early', headers: [], body }, responded);
  await responded.over();
  const connecting = new Recorder();
  upstream.send(GET, connecting);

  await upstream.close();
  for (const recorder of [flowing, paused, uploading, waiting, connecting]) {
    assert.equal(recorder.errorCode, 'closed', recorder.calls.join(' '));
  }
  assert.ok(responded.isBodyUnwanted, 'it was still sending its body');
  assert.equal(responded.calls.at(-1), 'end');
  assert.equal(clock.pendingCount(), 0);
  await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
});

test('after closing, a request fails at once; closing twice is as good as once', async (t) => {
  const { port } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  await Promise.all([upstream.close(), upstream.close()]);
  const recorder = new Recorder();
  upstream.send({ ...GET, method: 'POST', headers: [], body: new PassThrough() }, recorder);
  assert.deepEqual(recorder.calls, [], 'nothing is called within the call of send');
  await recorder.over();
  assert.deepEqual(recorder.failure, { code: 'closed', wasNotSent: true, wasReused: false });
});

test('a pool that is retired lets what is under way end, and keeps no connection', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => head.includes('/idle') && socket.write(DONE));
  });
  const upstream = openUpstream(t, port);
  await exchange(upstream, { path: '/idle' });
  const [first, second] = [new Recorder(), new Recorder()];
  upstream.send(GET, first);
  upstream.send(GET, second);
  await eventually(() => sockets.length === 2);
  const retired = upstream.pool.retire();
  const late = await exchange(upstream);
  assert.equal(late.errorCode, 'closed');
  for (const socket of sockets) socket.write(DONE);
  await Promise.all([first.over(), second.over()]);
  assert.deepEqual([first.text, second.text], ['ok', 'ok']);
  await retired;
  await eventually(() => sockets.every((socket) => socket.readableEnded));
});

test('a request that was waiting to be sent when the upstream was closed is told', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, responding(DONE));
  for (const idleMs of [0, 1_000]) {
    const upstream = openUpstream(t, port, { clock });
    await exchange(upstream);
    await clock.advance(idleMs);
    const recorder = new Recorder();
    upstream.send(GET, recorder);
    await upstream.close();
    assert.deepEqual([recorder.errorCode, recorder.calls], ['closed', ['error']]);
  }
});

test('a connection freed just before the upstream was closed is closed with it', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  const recorder = new Recorder();
  upstream.send(GET, recorder);
  await recorder.over();
  await upstream.close();
  await cooled();
  await eventually(() => sockets.every((socket) => socket.readableEnded));
});

/** What keeps the process busy and could be of a client: the test's own server and pipes are not. */
function leftovers(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => OF_A_CLIENT.test(kind));
}

const OF_A_CLIENT =
  /^(?:TCPSocket|TCPConnect|Shutdown|Write|GetAddrInfoReq)Wrap$|^(?:Timeout|Immediate)$/;

test('nothing is left after thousands of requests, aborted, refused and served, and ten closings', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.includes('/cut')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell');
      else if (head.includes('/bad')) socket.write('HTTP/1.1 200 OK\n\n');
      else if (!head.includes('/silent')) socket.write(DONE);
    });
  });
  for (let i = 0; i < 11; i += 1) await nextRound();
  await eventually(() => leftovers().length === 0, 10_000);

  async function nextRound(): Promise<void> {
    const upstream = openUpstream(t, port, { headTimeoutMs: 60_000 });
    for (let i = 0; i < 10; i += 1) {
      const paths = ['/a', '/b', '/cut', '/bad', '/c'];
      const silent = upstream.send({ ...GET, path: '/silent' }, new Recorder());
      await Promise.all(paths.map((path) => exchange(upstream, { path })));
      silent.abort();
    }
    await upstream.close();
    assert.deepEqual([upstream.pool.connectionCount, upstream.sweep.size], [0, 0]);
    await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
    for (const socket of sockets.splice(0)) socket.destroy();
  }
});
