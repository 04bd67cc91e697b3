import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
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
  type SentRequest,
  type TestUpstream,
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

const unexpected = new Error('unexpected');

/** Throws at one of its calls. */
function throwingAt(method: keyof Recorder): Recorder {
  const throwing = (): never => {
    throw unexpected;
  };
  return Object.assign(new Recorder(), { [method]: throwing });
}

const UPLOAD = { method: 'POST', headers: ['Content-Length', '9'] };

const THROWING: readonly (readonly [
  method: keyof Recorder,
  response: string,
  request?: Partial<SentRequest>,
  provoke?: (socket: Socket, upstream: TestUpstream) => unknown,
])[] = [
  ['onInterim', `HTTP/1.1 103 X\r\n\r\n${DONE}`],
  ['onHead', DONE],
  ['onResponseBody', DONE],
  ['onResponseEnd', DONE],
  ['onReadDone', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n'],
  ['onUpgrade', 'HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n', { upgrade: 'x' }],
  ['onUpstreamWritable', DONE],
  ['onBodyUnwanted', DONE, { ...UPLOAD, body: new PassThrough() }, (socket) => socket.end()],
  ['onError', 'HTTP/1.1 200 OK\n'],
  ['onError', '', {}, (socket) => socket.resetAndDestroy()],
  ['onError', '', {}, (_, upstream) => upstream.close()],
];

for (const [method, response, request = {}, provoke] of THROWING) {
  test(`an exception of ${method} ends the call and its connection, and is reported: ${JSON.stringify(response)}`, async (t) => {
    const { port, sockets } = await startRawServer(t, responding(response));
    const faults: unknown[] = [];
    const upstream = openUpstream(t, port, { onFault: (error) => faults.push(error) });
    const recorder = throwingAt(method);
    upstream.send({ ...GET, ...request }, recorder);
    await eventually(() => sockets.length === 1 && (sockets[0]?.bytesRead ?? 0) > 0);
    await cooled();
    if (sockets[0]) await provoke?.(sockets[0], upstream);
    await eventually(() => recorder.calls.at(-1) === 'fault');
    assert.deepEqual(faults, [unexpected]);
    await eventually(() => upstream.pool.connectionCount === 0);
  });
}

test('an exception of who is told that nothing could be sent is reported', async (t) => {
  const { port } = await startRawServer(t, responding(DONE));
  const faults: unknown[] = [];
  const onFault = (error: unknown): unknown => faults.push(error);
  for (const maxConnections of [0, 1]) {
    const upstream = openUpstream(t, port, { onFault, maxConnections });
    if (maxConnections > 0) await upstream.close();
    const recorder = throwingAt('onError');
    upstream.send(GET, recorder);
    await recorder.over();
    assert.deepEqual([recorder.calls, faults.splice(0)], [['fault'], [unexpected]]);
  }
});

test('an exception of who is told that a connection in doubt takes more is reported', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, responding(DONE));
  const faults: unknown[] = [];
  const upstream = openUpstream(t, port, { clock, onFault: (error) => faults.push(error) });
  await exchange(upstream);
  await clock.advance(250);
  const recorder = throwingAt('onUpstreamWritable');
  upstream.send(GET, recorder);
  await recorder.over();
  assert.deepEqual([recorder.calls, faults], [['fault'], [unexpected]]);
});

test('an exception of who is told that a write has failed is reported', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => socket.pause());
  const faults: unknown[] = [];
  const upstream = openUpstream(t, port, { onFault: (error) => faults.push(error) });
  const recorder = throwingAt('onBodyUnwanted');
  const body = new Readable({ read: () => undefined });
  upstream.send({ ...GET, method: 'POST', headers: [], body }, recorder);
  await eventually(() => recorder.call?.wasSent === true && sockets.length === 1);
  recorder.call?.pause();
  sockets[0]?.resetAndDestroy();
  await eventually(() => {
    body.push(Buffer.alloc(1_000));
    return recorder.isOver;
  });
  assert.deepEqual([recorder.calls, faults], [['fault'], [unexpected]]);
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
