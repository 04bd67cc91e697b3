import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
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
  type SentRequest,
  type TestUpstream,
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

test('close() aborts requests in every state, and each handler receives an error', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      if (head.includes('/idle')) socket.write(DONE);
      if (head.includes('/flowing')) socket.write('HTTP/1.1 200 OK\r\n\r\nhello');
      if (head.includes('/early')) socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  await Promise.all([
    sendRequest(upstream, { path: '/idle' }),
    sendRequest(upstream, { path: '/idle' }),
  ]);
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
  assert.ok(responded.isBodyUnwanted, 'its body was still being sent');
  assert.equal(responded.calls.at(-1), 'end');
  assert.equal(clock.pendingCount(), 0);
  await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
});

test('a request after close() fails, and close() may be called twice', async (t) => {
  const { port } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  await Promise.all([upstream.close(), upstream.close()]);
  const recorder = new Recorder();
  upstream.send({ ...GET, method: 'POST', headers: [], body: new PassThrough() }, recorder);
  assert.deepEqual(recorder.calls, [], 'no handler method is called within send()');
  await recorder.over();
  assert.deepEqual(recorder.failure, { code: 'closed', wasNotSent: true, wasReused: false });
});

test('retire() lets active requests finish, and closes all connections', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => head.includes('/idle') && socket.write(DONE));
  });
  const upstream = openUpstream(t, port);
  await sendRequest(upstream, { path: '/idle' });
  const [first, second] = [new Recorder(), new Recorder()];
  upstream.send(GET, first);
  upstream.send(GET, second);
  await eventually(() => sockets.length === 2);
  const retired = upstream.pool.retire();
  const late = await sendRequest(upstream);
  assert.equal(late.errorCode, 'closed');
  for (const socket of sockets) socket.write(DONE);
  await Promise.all([first.over(), second.over()]);
  assert.deepEqual([first.text, second.text], ['ok', 'ok']);
  await retired;
  await eventually(() => sockets.every((socket) => socket.readableEnded));
});

test('a request that waits to be sent when the pool closes receives an error', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, responding(DONE));
  for (const idleMs of [0, 1_000]) {
    const upstream = openUpstream(t, port, { clock });
    await sendRequest(upstream);
    await clock.advance(idleMs);
    const recorder = new Recorder();
    upstream.send(GET, recorder);
    await upstream.close();
    assert.deepEqual([recorder.errorCode, recorder.calls], ['closed', ['error']]);
  }
});

test('a connection freed just before close() is closed', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(DONE));
  const upstream = openUpstream(t, port);
  const recorder = new Recorder();
  upstream.send(GET, recorder);
  await recorder.over();
  await upstream.close();
  await untilReusable();
  await eventually(() => sockets.every((socket) => socket.readableEnded));
});

const unexpected = new Error('unexpected');

/** A recorder that throws in one of its methods. */
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
    await untilReusable();
    if (sockets[0]) await provoke?.(sockets[0], upstream);
    await eventually(() => recorder.calls.at(-1) === 'fault');
    assert.deepEqual(faults, [unexpected]);
    await eventually(() => upstream.pool.connectionCount === 0);
  });
}

test('an exception of onError for an unsent request is reported', async (t) => {
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

test('an exception of onUpstreamWritable on a checked connection is reported', async (t) => {
  const clock = createTestClock();
  const { port } = await startRawServer(t, responding(DONE));
  const faults: unknown[] = [];
  const upstream = openUpstream(t, port, { clock, onFault: (error) => faults.push(error) });
  await sendRequest(upstream);
  await clock.advance(250);
  const recorder = throwingAt('onUpstreamWritable');
  upstream.send(GET, recorder);
  await recorder.over();
  assert.deepEqual([recorder.calls, faults], [['fault'], [unexpected]]);
});

test('an exception of onBodyUnwanted after a failed write is reported', async (t) => {
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

/** Active resources of the process that a client may have left open. */
function leftovers(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => OF_A_CLIENT.test(kind));
}

const OF_A_CLIENT =
  /^(?:TCPSocket|TCPConnect|Shutdown|Write|GetAddrInfoReq)Wrap$|^(?:Timeout|Immediate)$/;

test('no resource is left after many served, rejected and aborted requests and ten closed pools', async (t) => {
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
      await Promise.all(paths.map((path) => sendRequest(upstream, { path })));
      silent.abort();
    }
    await upstream.close();
    assert.deepEqual([upstream.pool.connectionCount, upstream.sweep.size], [0, 0]);
    await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
    for (const socket of sockets.splice(0)) socket.destroy();
  }
});
