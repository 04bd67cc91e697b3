import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { RawServer } from './support.ts';
import {
  answering,
  cooled,
  eventually,
  exchange,
  onHeads,
  openUpstream,
  Recorder,
  startRawServer,
} from './support.ts';

const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX: y\r\n\r\n';
const ASK = { upgrade: 'echo' };

function socketOf(recorder: Recorder): Socket {
  assert.ok(recorder.socket instanceof Socket, recorder.errorCode);
  return recorder.socket;
}

/** The listeners of each event. */
function listeners(socket: Socket): string[] {
  return socket
    .eventNames()
    .map((name) => `${String(name)} ${socket.listenerCount(name)}`)
    .sort();
}

function last({ sockets }: RawServer): Socket {
  const socket = sockets.at(-1);
  assert.ok(socket);
  return socket;
}

test('the request asks for the protocol, and the answer gives the connection away', async (t) => {
  const heads: string[] = [];
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(SWITCH);
    });
  });
  const recorder = await exchange(openUpstream(t, server.origin), ASK);
  assert.deepEqual(recorder.calls, ['sent', 'upgrade']);
  assert.deepEqual(heads, [
    'GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
  ]);
  const expected = [101, ['Connection', 'Upgrade', 'Upgrade', 'echo', 'X', 'y']];
  assert.deepEqual([recorder.statusCode, recorder.rawHeaders], expected);
  socketOf(recorder).destroy();
});

test('the connection has no listeners of ours, and is as if nobody had read from it', async (t) => {
  const server = await startRawServer(t, answering(SWITCH));
  const socket = socketOf(await exchange(openUpstream(t, server.origin), ASK));
  assert.deepEqual(listeners(socket), listeners(new Socket({ allowHalfOpen: true })));
  assert.deepEqual(
    [socket.readableFlowing, socket.isPaused(), socket.allowHalfOpen],
    [null, false, true],
  );
  socket.destroy();
});

for (const first of ['', 'early']) {
  test(`bytes pass both ways, ${first ? 'those that came with the head first' : 'later too'}`, async (t) => {
    const server = await startRawServer(t, answering(SWITCH + first));
    for (const read of ['data', 'readable', 'pipe'] as const) {
      const socket = socketOf(await exchange(openUpstream(t, server.origin), ASK));
      let text = '';
      if (read === 'data') socket.on('data', (bytes: Buffer) => (text += bytes.toString()));
      if (read === 'readable') socket.on('readable', () => (text += String(socket.read() ?? '')));
      if (read === 'pipe')
        socket.pipe(new PassThrough()).on('data', (bytes: Buffer) => (text += bytes.toString()));
      socket.write('ping');
      const [ping] = (await once(last(server), 'data')) as [Buffer];
      assert.equal(ping.toString(), 'ping');
      last(server).write('pong');
      await eventually(() => text === `${first}pong`);
      socket.destroy();
    }
  });
}

test('a receiver that reads from within the call misses nothing', async (t) => {
  const server = await startRawServer(t, answering(`${SWITCH}early`));
  const recorder = new Recorder();
  let text = '';
  recorder.onCall = (name) => {
    if (name === 'upgrade')
      socketOf(recorder).on('data', (bytes: Buffer) => (text += bytes.toString()));
  };
  await exchange(openUpstream(t, server.origin), ASK, recorder);
  last(server).write(' late');
  await eventually(() => text === 'early late');
  socketOf(recorder).destroy();
});

test('either side may end first, and the other still be heard', async (t) => {
  const server = await startRawServer(t, answering(SWITCH));
  const upstream = openUpstream(t, server.origin);
  const first = socketOf(await exchange(upstream, ASK));
  first.resume().end('bye');
  await once(last(server), 'end');
  last(server).end('you too');
  await once(first, 'close');
  const second = socketOf(await exchange(upstream, ASK));
  last(server).end('bye');
  const [bye] = (await once(second, 'data')) as [Buffer];
  await once(second, 'end');
  assert.equal(bye.toString(), 'bye');
  second.end('you too');
  const [answer] = (await once(last(server), 'data')) as [Buffer];
  assert.equal(answer.toString(), 'you too');
});

test('a tunnel that has ended already when it is given away can be read to its end', async (t) => {
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(`${SWITCH}all there is`));
  });
  const socket = socketOf(await exchange(openUpstream(t, server.origin), ASK));
  let text = '';
  socket.on('data', (bytes: Buffer) => (text += bytes.toString()));
  await once(socket, 'end');
  assert.equal(text, 'all there is');
  socket.destroy();
});

test('a refused upgrade is an answer like any other, and its connection serves no other', async (t) => {
  const refusal = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno';
  const server = await startRawServer(t, answering(refusal));
  const upstream = openUpstream(t, server.origin);
  for (const count of [1, 2]) {
    const recorder = await exchange(upstream, ASK);
    assert.deepEqual(
      [recorder.statusCode, recorder.text, recorder.calls.at(-1)],
      [403, 'no', 'end'],
    );
    await eventually(() => last(server).readableEnded);
    assert.equal(server.sockets.length, count);
  }
});

test('a large refusal passes with backpressure', async (t) => {
  const refusal = `HTTP/1.1 403 Forbidden\r\n\r\n${'x'.repeat(3_000_000)}`;
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(refusal));
  });
  const recorder = new Recorder();
  recorder.onCall = () => {
    recorder.source?.pause();
    setImmediate(() => recorder.source?.resume());
  };
  await exchange(openUpstream(t, server.origin), ASK, recorder);
  assert.deepEqual([recorder.text.length, recorder.calls.at(-1)], [3_000_000, 'end']);
});

for (const [name, answer] of [
  ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n'],
  ['no protocol', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
] as const) {
  test(`a switch to ${name} is refused`, async (t) => {
    const server = await startRawServer(t, answering(answer));
    const recorder = await exchange(openUpstream(t, server.origin), ASK);
    assert.equal(recorder.errorCode, 'malformed-answer');
    await eventually(() => last(server).readableEnded);
  });
}

test('a switch that was not asked for is refused', async (t) => {
  const server = await startRawServer(t, answering(SWITCH));
  const recorder = await exchange(openUpstream(t, server.origin));
  assert.equal(recorder.errorCode, 'malformed-answer');
});

test('an upgrade never takes an idle connection, nor leaves one', async (t) => {
  const server = await startRawServer(t, answering('HTTP/1.1 204 No Content\r\n\r\n', SWITCH));
  const upstream = openUpstream(t, server.origin);
  await exchange(upstream);
  socketOf(await exchange(upstream, ASK)).destroy();
  assert.equal(server.sockets.length, 2);
});

test('a switch before the request was all sent is refused', async (t) => {
  const server = await startRawServer(t, answering(SWITCH));
  const body = new PassThrough();
  const recorder = await exchange(openUpstream(t, server.origin), {
    ...ASK,
    method: 'POST',
    headers: [],
    body,
  });
  assert.equal(recorder.errorCode, 'malformed-answer');
});

test('closing the upstream leaves a tunnel to its receiver', async (t) => {
  const server = await startRawServer(t, answering(SWITCH));
  const upstream = openUpstream(t, server.origin);
  const socket = socketOf(await exchange(upstream, ASK));
  await upstream.close();
  await cooled();
  assert.equal(socket.destroyed, false);
  socket.destroy();
});
