import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { UpstreamTunnel } from '../../src/http/upstream-request.ts';
import { createTestClock } from '../support/clock.ts';
import type { RawServer } from './support.ts';
import {
  cooled,
  eventually,
  exchange,
  onHeads,
  openUpstream,
  Recorder,
  RecordingEnd,
  responding,
  startRawServer,
} from './support.ts';

const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX: y\r\n\r\n';
const ASK = { upgrade: 'echo' };

function tunnelOf(recorder: Recorder): UpstreamTunnel {
  assert.ok(recorder.tunnel, recorder.errorCode);
  return recorder.tunnel;
}

function send(tunnel: UpstreamTunnel, text: string): boolean {
  return tunnel.write(Buffer.from(text), 0, text.length, 'kept');
}

function last({ sockets }: RawServer): Socket {
  const socket = sockets.at(-1);
  assert.ok(socket);
  return socket;
}

test('the request asks for the protocol, and the response makes the connection the end of a tunnel', async (t) => {
  const heads: string[] = [];
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(SWITCH);
    });
  });
  const recorder = await exchange(openUpstream(t, server.port), ASK);
  assert.deepEqual(recorder.calls, ['upgrade']);
  assert.deepEqual(heads, [
    'GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
  ]);
  assert.deepEqual(
    [recorder.statusCode, recorder.head?.upgrade, recorder.rawHeaders],
    [101, 'echo', ['X', 'y']],
  );
});

test('nothing is read from a tunnel before it has its other end', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const tunnel = tunnelOf(await exchange(upstream, ASK));
  const client = new RecordingEnd();
  last(server).write('late');
  // Another response, which is sent later, has arrived by then.
  await exchange(upstream, ASK);
  assert.equal(client.text, '');
  tunnel.join(client);
  await eventually(() => client.text === 'late');
});

for (const first of ['', 'early']) {
  test(`bytes pass both ways, ${first ? 'those that came with the head first' : 'later too'}`, async (t) => {
    const server = await startRawServer(t, responding(SWITCH + first));
    const recorder = await exchange(openUpstream(t, server.port), ASK);
    assert.equal(recorder.rest, first);
    const tunnel = tunnelOf(recorder);
    const client = new RecordingEnd();
    tunnel.join(client);
    for (let i = 0; i < 3; i += 1) {
      send(tunnel, 'ping');
      const [ping] = (await once(last(server), 'data')) as [Buffer];
      assert.equal(ping.toString(), 'ping');
      last(server).write('pong');
      await eventually(() => client.text === 'pong'.repeat(i + 1));
    }
  });
}

test('a client that takes no more stops the server, and one that takes more lets it go on', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const tunnel = tunnelOf(await exchange(openUpstream(t, server.port), ASK));
  const client = new RecordingEnd();
  client.mayTakeMore = false;
  tunnel.join(client);
  const LENGTH = 20_000_000;
  last(server).write(Buffer.alloc(LENGTH, 'x'));
  await eventually(() => client.text !== '');
  const first = client.text.length;
  await cooled();
  assert.equal(client.text.length, first);
  client.mayTakeMore = true;
  tunnel.resume();
  await eventually(() => client.text.length === LENGTH);
});

test('a server that takes no more stops the client, and is asked again once it has', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const tunnel = tunnelOf(await exchange(openUpstream(t, server.port), ASK));
  const client = new RecordingEnd();
  tunnel.join(client);
  last(server).pause();
  const part = 'x'.repeat(1_000_000);
  await eventually(() => !send(tunnel, part));
  assert.equal(client.resumeCount, 0);
  last(server).resume();
  await eventually(() => client.resumeCount > 0);
});

test('either side may end first, and the other still send', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const first = tunnelOf(await exchange(upstream, ASK));
  const leaving = new RecordingEnd();
  first.join(leaving);
  send(first, 'bye');
  first.end();
  last(server).resume();
  await once(last(server), 'end');
  last(server).end('you too');
  await eventually(() => leaving.closedBy !== undefined);
  assert.deepEqual([leaving.text, leaving.hasEnded, leaving.closedBy], ['you too', true, 'close']);

  const second = tunnelOf(await exchange(upstream, ASK));
  const staying = new RecordingEnd();
  second.join(staying);
  last(server).end('bye');
  await eventually(() => staying.hasEnded);
  assert.deepEqual([staying.text, staying.closedBy], ['bye', undefined]);
  send(second, 'you too');
  second.end();
  const [reply] = (await once(last(server), 'data')) as [Buffer];
  assert.equal(reply.toString(), 'you too');
  await eventually(() => staying.closedBy === 'close' && upstream.pool.connectionCount === 0);
});

test('a tunnel that has ended already when it gets its other end is read to its end', async (t) => {
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(`${SWITCH}all there is`));
  });
  const recorder = await exchange(openUpstream(t, server.port), ASK);
  const client = new RecordingEnd();
  tunnelOf(recorder).join(client);
  await eventually(() => client.hasEnded);
  assert.equal(recorder.rest, 'all there is');
});

for (const [how, close] of [
  ['reset', (socket: Socket) => socket.resetAndDestroy()],
  ['close', (socket: Socket) => socket.end()],
] as const) {
  test(`a ${how} by the server is a ${how} for the client`, async (t) => {
    const server = await startRawServer(t, responding(SWITCH));
    const tunnel = tunnelOf(await exchange(openUpstream(t, server.port), ASK));
    const client = new RecordingEnd();
    tunnel.join(client);
    close(last(server));
    if (how === 'close') {
      await eventually(() => client.hasEnded);
      tunnel.end();
    }
    await eventually(() => client.closedBy !== undefined);
    assert.equal(client.closedBy, how);
  });

  test(`a ${how} by the client is a ${how} for the server`, async (t) => {
    const server = await startRawServer(t, responding(SWITCH));
    const upstream = openUpstream(t, server.port);
    const tunnel = tunnelOf(await exchange(upstream, ASK));
    tunnel.join(new RecordingEnd());
    const errors: unknown[] = [];
    const socket = last(server).on('error', ({ code }: NodeJS.ErrnoException) => errors.push(code));
    socket.resume();
    tunnel.closeTunnel(how === 'reset');
    await eventually(() => socket.readableEnded || socket.destroyed);
    assert.deepEqual(errors, how === 'reset' ? ['ECONNRESET'] : []);
    socket.end();
    await eventually(() => upstream.pool.connectionCount === 0);
  });
}

test('what the client has sent before it closed arrives whole, however slowly it is read', async (t) => {
  const LENGTH = 20_000_000;
  const clock = createTestClock();
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port, { clock });
  const tunnel = tunnelOf(await exchange(upstream, ASK));
  tunnel.join(new RecordingEnd());
  const socket = last(server).pause();
  const before = socket.bytesRead;
  tunnel.write(Buffer.alloc(LENGTH), 0, LENGTH, 'kept');
  tunnel.closeTunnel(false);
  await clock.advance(29_000);
  socket
    .removeAllListeners('data')
    .on('data', () => undefined)
    .resume();
  await eventually(() => socket.readableEnded || socket.destroyed);
  assert.equal(socket.bytesRead - before, LENGTH);
  socket.end();
  await eventually(() => upstream.pool.connectionCount === 0);
});

test('what nobody reads after the client has closed is given up after half a minute', async (t) => {
  const clock = createTestClock();
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port, { clock });
  const tunnel = tunnelOf(await exchange(upstream, ASK));
  tunnel.join(new RecordingEnd());
  last(server).pause();
  tunnel.write(Buffer.alloc(20_000_000), 0, 20_000_000, 'kept');
  tunnel.closeTunnel(false);
  await clock.advance(29_999);
  assert.equal(upstream.pool.connectionCount, 1);
  await clock.advance(501);
  await eventually(() => upstream.pool.connectionCount === 0);
});

test('a refused upgrade is a response like any other, and its connection serves no other', async (t) => {
  const refusal = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno';
  const server = await startRawServer(t, responding(refusal));
  // No connection ends for having been idle.
  const upstream = openUpstream(t, server.port, { clock: createTestClock() });
  for (const count of [1, 2]) {
    const recorder = await exchange(upstream, ASK);
    assert.deepEqual(
      [recorder.statusCode, recorder.text, recorder.calls.at(-1)],
      [403, 'no', 'end'],
    );
    await eventually(() => last(server).readableEnded);
    assert.equal(server.sockets.length, count);
  }
  await exchange(upstream);
  assert.equal(server.sockets.length, 3);
});

test('a large refusal passes with backpressure', async (t) => {
  const refusal = `HTTP/1.1 403 Forbidden\r\n\r\n${'x'.repeat(3_000_000)}`;
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(refusal));
  });
  const recorder = new Recorder();
  recorder.onCall = () => {
    recorder.call?.pause();
    setImmediate(() => recorder.call?.resume());
  };
  await exchange(openUpstream(t, server.port), ASK, recorder);
  assert.deepEqual([recorder.text.length, recorder.calls.at(-1)], [3_000_000, 'end']);
});

for (const [name, fields] of [
  ['another protocol', 'Connection: Upgrade\r\nUpgrade: h2c\r\n'],
  ['one protocol more', 'Connection: Upgrade\r\nUpgrade: echo, h2c\r\n'],
  ['an empty protocol', 'Connection: Upgrade\r\nUpgrade:\r\n'],
  ['another protocol, without Connection', 'Upgrade: h2c\r\n'],
  ['the protocol, without Connection', 'Upgrade: echo\r\n'],
  ['no protocol', ''],
] as const) {
  test(`a switch to ${name} is refused`, async (t) => {
    const response = `HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n`;
    const server = await startRawServer(t, responding(response));
    const recorder = await exchange(openUpstream(t, server.port), ASK);
    assert.equal(recorder.errorCode, 'malformed-response');
    await eventually(() => last(server).readableEnded);
  });
}

for (const [asked, named] of [
  ['echo', 'ECHO'],
  ['Echo, other', 'echo'],
  ['echo, other', 'Other, echo'],
] as const) {
  test(`a switch to ${named} is one that was asked for by ${asked}`, async (t) => {
    const response = `HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: ${named}\r\n\r\n`;
    const server = await startRawServer(t, responding(response));
    const recorder = await exchange(openUpstream(t, server.port), { upgrade: asked });
    assert.deepEqual(recorder.calls, ['upgrade']);
  });
}

test('a switch that was not asked for is refused', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const recorder = await exchange(openUpstream(t, server.port));
  assert.equal(recorder.errorCode, 'malformed-response');
});

test('an upgrade never takes an idle connection, nor leaves one', async (t) => {
  const server = await startRawServer(t, responding('HTTP/1.1 204 No Content\r\n\r\n', SWITCH));
  const upstream = openUpstream(t, server.port);
  await exchange(upstream);
  tunnelOf(await exchange(upstream, ASK)).closeTunnel(false);
  assert.equal(server.sockets.length, 2);
});

test('a switch before the request was all sent is refused', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const body = new PassThrough();
  const recorder = await exchange(openUpstream(t, server.port), {
    ...ASK,
    method: 'POST',
    headers: [],
    body,
  });
  assert.equal(recorder.errorCode, 'malformed-response');
});

test('closing the pool closes its tunnels, and their clients are told', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const [first, second] = [await exchange(upstream, ASK), await exchange(upstream, ASK)];
  const [joined, late] = [new RecordingEnd(), new RecordingEnd()];
  tunnelOf(first).join(joined);
  await upstream.close();
  await eventually(() => server.sockets.every((socket) => socket.readableEnded));
  tunnelOf(second).join(late);
  assert.deepEqual([joined.closedBy, late.closedBy], ['close', 'close']);
});

test('an exception of one end of a tunnel closes it, and the other end is told', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const faults: unknown[] = [];
  const upstream = openUpstream(t, server.port, { onFault: (error) => faults.push(error) });
  const client = new RecordingEnd();
  const unexpected = new Error('unexpected');
  client.write = () => {
    throw unexpected;
  };
  tunnelOf(await exchange(upstream, ASK)).join(client);
  last(server).write('x');
  await eventually(() => client.closedBy !== undefined);
  assert.deepEqual([faults, client.closedBy], [[unexpected], 'close']);
});
