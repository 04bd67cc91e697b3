import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { UpstreamTunnel } from '../../src/http/upstream-request.ts';
import { createTestClock } from '../support/clock.ts';
import type { RawServer } from './support.ts';
import {
  untilReusable,
  eventually,
  sendRequest,
  onHeads,
  openUpstream,
  Recorder,
  RecordingEnd,
  responding,
  startRawServer,
} from './support.ts';

const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX: y\r\n\r\n';
const UPGRADE = { upgrade: 'echo' };

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

test('sends the Upgrade request, and a 101 turns the connection into a tunnel', async (t) => {
  const heads: string[] = [];
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(SWITCH);
    });
  });
  const recorder = await sendRequest(openUpstream(t, server.port), UPGRADE);
  assert.deepEqual(recorder.calls, ['upgrade']);
  assert.deepEqual(heads, [
    'GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
  ]);
  assert.deepEqual(
    [recorder.statusCode, recorder.head?.upgrade, recorder.rawHeaders],
    [101, 'echo', ['X', 'y']],
  );
});

test('nothing is read from a tunnel before its other end is joined', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const tunnel = tunnelOf(await sendRequest(upstream, UPGRADE));
  const client = new RecordingEnd();
  last(server).write('late');
  // A response that is sent later has arrived by then.
  await sendRequest(upstream, UPGRADE);
  assert.equal(client.text, '');
  tunnel.join(client);
  await eventually(() => client.text === 'late');
});

for (const first of ['', 'early']) {
  test(`bytes pass in both directions, ${first ? 'first those received with the head' : 'later too'}`, async (t) => {
    const server = await startRawServer(t, responding(SWITCH + first));
    const recorder = await sendRequest(openUpstream(t, server.port), UPGRADE);
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

test('a client that is not writable stops the server, and resume() continues', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const tunnel = tunnelOf(await sendRequest(openUpstream(t, server.port), UPGRADE));
  const client = new RecordingEnd();
  client.isWritable = false;
  tunnel.join(client);
  const LENGTH = 20_000_000;
  last(server).write(Buffer.alloc(LENGTH, 'x'));
  await eventually(() => client.text !== '');
  const first = client.text.length;
  await untilReusable();
  assert.equal(client.text.length, first);
  client.isWritable = true;
  tunnel.resume();
  await eventually(() => client.text.length === LENGTH);
});

test('a server that does not read stops the client, which is resumed when the server reads', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const tunnel = tunnelOf(await sendRequest(openUpstream(t, server.port), UPGRADE));
  const client = new RecordingEnd();
  tunnel.join(client);
  last(server).pause();
  const part = 'x'.repeat(1_000_000);
  await eventually(() => !send(tunnel, part));
  assert.equal(client.resumeCount, 0);
  last(server).resume();
  await eventually(() => client.resumeCount > 0);
});

test('either side may end first, and the other may still send', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const first = tunnelOf(await sendRequest(upstream, UPGRADE));
  const leaving = new RecordingEnd();
  first.join(leaving);
  send(first, 'bye');
  first.end();
  last(server).resume();
  await once(last(server), 'end');
  last(server).end('you too');
  await eventually(() => leaving.closedBy !== undefined);
  assert.deepEqual([leaving.text, leaving.hasEnded, leaving.closedBy], ['you too', true, 'close']);

  const second = tunnelOf(await sendRequest(upstream, UPGRADE));
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

test('a tunnel that ended before its other end is joined is read to its end', async (t) => {
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(`${SWITCH}all there is`));
  });
  const recorder = await sendRequest(openUpstream(t, server.port), UPGRADE);
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
    const tunnel = tunnelOf(await sendRequest(openUpstream(t, server.port), UPGRADE));
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
    const tunnel = tunnelOf(await sendRequest(upstream, UPGRADE));
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

test('data that the client sent before it closed arrives complete at a slow reader', async (t) => {
  const LENGTH = 20_000_000;
  const clock = createTestClock();
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port, { clock });
  const tunnel = tunnelOf(await sendRequest(upstream, UPGRADE));
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

test('unread data is discarded 30 seconds after the client closed', async (t) => {
  const clock = createTestClock();
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port, { clock });
  const tunnel = tunnelOf(await sendRequest(upstream, UPGRADE));
  tunnel.join(new RecordingEnd());
  last(server).pause();
  tunnel.write(Buffer.alloc(20_000_000), 0, 20_000_000, 'kept');
  tunnel.closeTunnel(false);
  await clock.advance(29_999);
  assert.equal(upstream.pool.connectionCount, 1);
  await clock.advance(501);
  await eventually(() => upstream.pool.connectionCount === 0);
});

test('a rejected upgrade is an ordinary response, and its connection is not reused', async (t) => {
  const rejection = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno';
  const server = await startRawServer(t, responding(rejection));
  // No connection closes because it is idle.
  const upstream = openUpstream(t, server.port, { clock: createTestClock() });
  for (const count of [1, 2]) {
    const recorder = await sendRequest(upstream, UPGRADE);
    assert.deepEqual(
      [recorder.statusCode, recorder.text, recorder.calls.at(-1)],
      [403, 'no', 'end'],
    );
    await eventually(() => last(server).readableEnded);
    assert.equal(server.sockets.length, count);
  }
  await sendRequest(upstream);
  assert.equal(server.sockets.length, 3);
});

test('a large rejection passes with backpressure', async (t) => {
  const rejection = `HTTP/1.1 403 Forbidden\r\n\r\n${'x'.repeat(3_000_000)}`;
  const server = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(rejection));
  });
  const recorder = new Recorder();
  recorder.onCall = () => {
    recorder.call?.pause();
    setImmediate(() => recorder.call?.resume());
  };
  await sendRequest(openUpstream(t, server.port), UPGRADE, recorder);
  assert.deepEqual([recorder.text.length, recorder.calls.at(-1)], [3_000_000, 'end']);
});

for (const [name, fields] of [
  ['another protocol', 'Connection: Upgrade\r\nUpgrade: h2c\r\n'],
  ['an additional protocol', 'Connection: Upgrade\r\nUpgrade: echo, h2c\r\n'],
  ['an empty protocol', 'Connection: Upgrade\r\nUpgrade:\r\n'],
  ['another protocol, without Connection', 'Upgrade: h2c\r\n'],
  ['the protocol, without Connection', 'Upgrade: echo\r\n'],
  ['no protocol', ''],
] as const) {
  test(`a switch to ${name} is rejected`, async (t) => {
    const response = `HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n`;
    const server = await startRawServer(t, responding(response));
    const recorder = await sendRequest(openUpstream(t, server.port), UPGRADE);
    assert.equal(recorder.errorCode, 'malformed-response');
    await eventually(() => last(server).readableEnded);
  });
}

for (const [requested, named] of [
  ['echo', 'ECHO'],
  ['Echo, other', 'echo'],
  ['echo, other', 'Other, echo'],
] as const) {
  test(`a switch to ${named} is accepted for the request ${requested}`, async (t) => {
    const response = `HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: ${named}\r\n\r\n`;
    const server = await startRawServer(t, responding(response));
    const recorder = await sendRequest(openUpstream(t, server.port), { upgrade: requested });
    assert.deepEqual(recorder.calls, ['upgrade']);
  });
}

test('a switch without an upgrade request is rejected', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const recorder = await sendRequest(openUpstream(t, server.port));
  assert.equal(recorder.errorCode, 'malformed-response');
});

test('an upgrade neither uses nor leaves an idle connection', async (t) => {
  const server = await startRawServer(t, responding('HTTP/1.1 204 No Content\r\n\r\n', SWITCH));
  const upstream = openUpstream(t, server.port);
  await sendRequest(upstream);
  tunnelOf(await sendRequest(upstream, UPGRADE)).closeTunnel(false);
  assert.equal(server.sockets.length, 2);
});

test('a switch before the request is completely sent is rejected', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const body = new PassThrough();
  const recorder = await sendRequest(openUpstream(t, server.port), {
    ...UPGRADE,
    method: 'POST',
    headers: [],
    body,
  });
  assert.equal(recorder.errorCode, 'malformed-response');
});

test('closing the pool closes its tunnels and their other ends', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const upstream = openUpstream(t, server.port);
  const [first, second] = [
    await sendRequest(upstream, UPGRADE),
    await sendRequest(upstream, UPGRADE),
  ];
  const [joined, late] = [new RecordingEnd(), new RecordingEnd()];
  tunnelOf(first).join(joined);
  await upstream.close();
  await eventually(() => server.sockets.every((socket) => socket.readableEnded));
  tunnelOf(second).join(late);
  assert.deepEqual([joined.closedBy, late.closedBy], ['close', 'close']);
});

test('an exception of one end of a tunnel closes both ends', async (t) => {
  const server = await startRawServer(t, responding(SWITCH));
  const faults: unknown[] = [];
  const upstream = openUpstream(t, server.port, { onFault: (error) => faults.push(error) });
  const client = new RecordingEnd();
  const unexpected = new Error('unexpected');
  client.write = () => {
    throw unexpected;
  };
  tunnelOf(await sendRequest(upstream, UPGRADE)).join(client);
  last(server).write('x');
  await eventually(() => client.closedBy !== undefined);
  assert.deepEqual([faults, client.closedBy], [[unexpected], 'close']);
});
