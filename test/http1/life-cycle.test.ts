import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
import {
  answering,
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

test('closing breaks off what is under way, in whatever state, and every receiver hears of it', async (t) => {
  const clock = createTestClock();
  const { origin, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.includes('/idle')) socket.write(DONE);
      if (head.includes('/flowing')) socket.write('HTTP/1.1 200 OK\r\n\r\nhello');
    });
  });
  const upstream = openUpstream(t, origin, { clock, headTimeoutMs: 1_000 });
  await Promise.all([exchange(upstream, { path: '/idle' }), exchange(upstream, { path: '/idle' })]);
  const flowing = new Recorder();
  upstream.send({ ...GET, path: '/flowing' }, flowing);
  const paused = new Recorder();
  paused.onCall = (name) => {
    if (name === 'head') paused.source?.pause();
  };
  upstream.send({ ...GET, path: '/flowing' }, paused);
  await eventually(() => flowing.text === 'hello' && paused.statusCode === 200);
  const body = new PassThrough();
  const uploading = new Recorder();
  upstream.send({ ...GET, method: 'POST', headers: [], body }, uploading);
  const waiting = new Recorder();
  upstream.send(GET, waiting);
  await eventually(() => sockets.length === 4);
  const connecting = new Recorder();
  upstream.send(GET, connecting);
  const unsent = new Recorder();
  upstream.send({ ...GET, method: 'NOT ONE' }, unsent);

  await upstream.close();
  for (const recorder of [flowing, paused, uploading, waiting, connecting]) {
    assert.equal(recorder.errorCode, 'closed', recorder.calls.join(' '));
  }
  assert.equal(unsent.errorCode, 'malformed-request');
  assert.ok(body.destroyed);
  assert.equal(clock.pendingCount(), 0);
  await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
});

test('after closing, a request fails at once; closing twice is as good as once', async (t) => {
  const { origin } = await startRawServer(t, answering(DONE));
  const upstream = openUpstream(t, origin);
  await Promise.all([upstream.close(), upstream.close()]);
  const body = new PassThrough();
  const recorder = await exchange(upstream, { method: 'POST', headers: [], body });
  assert.deepEqual(recorder.failure, { code: 'closed', wasNotSent: true, wasReused: false });
  assert.ok(body.destroyed);
});

test('a request that was waiting to be sent when the upstream was closed hears of it', async (t) => {
  const clock = createTestClock();
  const { origin } = await startRawServer(t, answering(DONE));
  for (const idleMs of [0, 1_000]) {
    const upstream = openUpstream(t, origin, { clock });
    await exchange(upstream);
    await clock.advance(idleMs);
    const recorder = new Recorder();
    upstream.send(GET, recorder);
    await upstream.close();
    assert.deepEqual([recorder.errorCode, recorder.calls], ['closed', ['error']]);
  }
});

test('a connection freed just before the upstream was closed is closed with it', async (t) => {
  const { origin, sockets } = await startRawServer(t, answering(DONE));
  const upstream = openUpstream(t, origin);
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
  const { origin, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.includes('/cut')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell');
      else if (head.includes('/bad')) socket.write('HTTP/1.1 200 OK\n\n');
      else if (!head.includes('/silent')) socket.write(DONE);
    });
  });
  for (let i = 0; i < 11; i += 1) await nextRound();
  await eventually(() => leftovers().length === 0, 10_000);

  async function nextRound(): Promise<void> {
    const upstream = openUpstream(t, origin, { headTimeoutMs: 60_000 });
    for (let i = 0; i < 10; i += 1) {
      const paths = ['/a', '/b', '/cut', '/bad', '/silent', '/c'];
      const all = paths.map((path) => exchange(upstream, { path }, abortedIf(path === '/silent')));
      await Promise.all(all);
    }
    await upstream.close();
    await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
    for (const socket of sockets.splice(0)) socket.destroy();
  }
});

function abortedIf(isAborted: boolean): Recorder {
  const recorder = new Recorder();
  recorder.onCall = (name) => {
    if (isAborted && name === 'sent') setImmediate(() => recorder.source?.abort(new Error('left')));
  };
  return recorder;
}
