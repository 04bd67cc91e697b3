import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { createTestClock } from '../support/clock.ts';
import {
  untilReusable,
  eventually,
  sendRequest,
  GET,
  openUpstream,
  Recorder,
  startRawServer,
  type SentRequest,
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';

/** Records what the server receives. It responds when it has received `last`. */
function respondingAfter(last: string, seen: string[]): (socket: Socket) => void {
  return (socket) => {
    let text = '';
    socket.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
      if (!text.endsWith(last)) return;
      seen.push(text);
      text = '';
      socket.write(DONE);
    });
  };
}

interface Sent {
  readonly name: string;
  readonly request: Partial<SentRequest>;
  readonly expected: string;
}

const SENT: readonly Sent[] = [
  {
    name: 'a head goes out byte for byte',
    request: {
      path: '/a?b=%7E\xe9',
      headers: ['X-b', 'caf\xe9', 'host', 'h', 'x-B', '', 'A', 'b\tc'],
    },
    expected: 'GET /a?b=%7E\xe9 HTTP/1.1\r\nX-b: caf\xe9\r\nhost: h\r\nx-B: \r\nA: b\tc\r\n\r\n',
  },
  {
    name: 'a request without a body keeps its Content-Length of 0',
    request: { method: 'POST', headers: ['Content-Length', '0'] },
    expected: 'POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n',
  },
  {
    name: 'a body that is here already goes out with its head, as it is',
    request: {
      method: 'POST',
      headers: ['Content-Length', '4'],
      body: Buffer.from('\x00\xff\r\n', 'latin1'),
    },
    expected: 'POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\x00\xff\r\n',
  },
  {
    name: 'a body that comes in pieces goes out as it is',
    request: {
      method: 'POST',
      headers: ['content-length', '5'],
      body: Readable.from([Buffer.from('he'), Buffer.from('llo')]),
    },
    expected: 'POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello',
  },
  {
    name: 'a body in chunks goes out as it was framed',
    request: {
      method: 'POST',
      headers: [],
      body: Readable.from([Buffer.from('h'), Buffer.alloc(0), Buffer.from('ello world')]),
    },
    expected:
      'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\na\r\nello world\r\n0\r\n\r\n',
  },
  {
    name: 'an empty body in chunks is the last chunk',
    request: { method: 'POST', headers: [], body: Readable.from([]) },
    expected: 'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  },
];

for (const { name, request, expected } of SENT) {
  test(name, async (t) => {
    const seen: string[] = [];
    const { port } = await startRawServer(t, respondingAfter(expected.slice(-5), seen));
    const { errorCode } = await sendRequest(openUpstream(t, port), request);
    assert.equal(errorCode, undefined);
    assert.deepEqual(seen, [expected]);
  });
}

class CountingRecorder extends Recorder {
  writableCount = 0;

  override onUpstreamWritable(): void {
    this.writableCount += 1;
    super.onUpstreamWritable();
  }
}

test('a call reports whether its request was written and whether it is writable, now or later', async (t) => {
  const { port } = await startRawServer(t, respondingAfter('\r\n\r\n', []));
  const upstream = openUpstream(t, port);
  const first = new CountingRecorder();
  const call = upstream.send(GET, first);
  assert.deepEqual([call.wasSent, call.wasWritable, first.writableCount], [false, false, 0]);
  await first.over();
  assert.deepEqual([call.wasSent, call.wasWritable, first.writableCount], [true, true, 1]);
  await untilReusable();
  const second = new Recorder();
  const { wasSent, wasWritable } = upstream.send(GET, second);
  assert.deepEqual([wasSent, wasWritable], [true, true]);
  await second.over();
});

test('a large buffer and a large stream arrive complete', async (t) => {
  const body = Buffer.alloc(1_000_000, 'abcdefghij');
  const seen: string[] = [];
  const { port, sockets } = await startRawServer(t, respondingAfter('j0\r\n\r\n', seen));
  const upstream = openUpstream(t, port);
  const whole = Buffer.concat([body, Buffer.from('0\r\n\r\n')]);
  await sendRequest(upstream, { method: 'POST', body: whole });
  const pieces = Array.from({ length: 100 }, (_, i) =>
    whole.subarray(i * 10_001, (i + 1) * 10_001),
  );
  const headers = ['Content-Length', String(whole.length)];
  await sendRequest(upstream, { method: 'POST', headers, body: Readable.from(pieces) });
  const bodies = seen.map((text) => text.slice(text.indexOf('\r\n\r\n') + 4));
  assert.deepEqual(bodies, [whole.toString('latin1'), whole.toString('latin1')]);
  assert.equal(sockets.length, 1);
});

test('a server that does not read pauses the body, and later receives it complete', async (t) => {
  const CHUNK = Buffer.alloc(65_536, 'x');
  const COUNT = 1024;
  const { port, sockets } = await startRawServer(t, (socket) => socket.pause());
  let made = 0;
  const body = new Readable({
    read() {
      made += 1;
      this.push(made <= COUNT ? CHUNK : null);
    },
  });
  const recorder = new Recorder();
  const headers = ['Content-Length', String(COUNT * CHUNK.length)];
  openUpstream(t, port).send({ ...GET, method: 'POST', headers, body }, recorder);
  await eventually(() => body.isPaused());
  let last = -1;
  await eventually(() => {
    const isStill = last === made;
    last = made;
    return isStill;
  });
  assert.ok(made < COUNT / 2, `${made} of ${COUNT} were taken`);
  let byteCount = 0;
  const [socket] = sockets;
  socket?.on('data', (bytes: Buffer) => {
    byteCount += bytes.length;
    if (byteCount > COUNT * CHUNK.length) socket.write(DONE);
  });
  socket?.resume();
  await recorder.over();
  assert.equal(recorder.statusCode, 200);
});

/** Responds to each head before its body. */
function respondingEarly(response: string, seen: string[]): (socket: Socket) => void {
  return (socket) => {
    socket.on('data', (bytes: Buffer) => {
      const text = bytes.toString('latin1');
      seen.push(text);
      if (text.includes('HTTP/1.1')) socket.write(response);
    });
  };
}

test('a response before the end of the body is delivered complete, and the body continues', async (t) => {
  const seen: string[] = [];
  const response = 'HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nnono!';
  const { port } = await startRawServer(t, respondingEarly(response, seen));
  const upstream = openUpstream(t, port);
  for (const [headers, end] of [
    [['Content-Length', '6'], 'def'],
    [[], '3\r\ndef\r\n0\r\n\r\n'],
  ] as const) {
    const body = new PassThrough();
    body.write('abc');
    const early = await sendRequest(upstream, { method: 'POST', headers, body });
    assert.deepEqual([early.statusCode, early.text, early.calls.at(-1)], [413, 'nono!', 'end']);
    assert.equal(early.isBodyUnwanted, false);
    body.end('def');
    await eventually(() => seen.join('').endsWith(end));
  }
});

test('a connection with an early response is reused after the body is sent', async (t) => {
  const seen: string[] = [];
  const { port, sockets } = await startRawServer(t, respondingEarly(DONE, seen));
  const upstream = openUpstream(t, port);
  const body = new PassThrough();
  await sendRequest(upstream, { method: 'POST', headers: ['Content-Length', '3'], body });
  await sendRequest(upstream);
  assert.equal(sockets.length, 2, 'the first is still being sent to');
  body.end('abc');
  await eventually(() => seen.at(-1) === 'abc');
  await untilReusable();
  await Promise.all([sendRequest(upstream), sendRequest(upstream)]);
  assert.equal(sockets.length, 2);
});

for (const [name, end] of [
  ['ends', (socket: Socket) => socket.end()],
  ['resets', (socket: Socket) => socket.resetAndDestroy()],
  ['sends more bytes on', (socket: Socket) => socket.write(DONE)],
] as const) {
  test(`a server that ${name} its connection after a complete response receives no more of the body`, async (t) => {
    const { port, sockets } = await startRawServer(t, (socket) => {
      socket.once('data', () => socket.write(DONE));
    });
    const recorder = new Recorder();
    const body = new PassThrough();
    const upstream = openUpstream(t, port);
    upstream.send({ ...GET, method: 'POST', headers: ['Content-Length', '9'], body }, recorder);
    await recorder.over();
    assert.ok(sockets[0]);
    end(sockets[0]);
    await eventually(() => recorder.isBodyUnwanted);
    assert.equal(recorder.calls.at(-1), 'end');
    await eventually(() => upstream.pool.connectionCount === 0);
  });
}

test('a response is delivered even if the server closes before it has read the body', async (t) => {
  const response = 'HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno';
  const { port, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => socket.pause());
  });
  const upstream = openUpstream(t, port);
  const recorder = new Recorder();
  let isPaused = true;
  const body = new Readable({ read: () => undefined });
  upstream.send({ ...GET, method: 'POST', headers: [], body }, recorder);
  await eventually(() => (sockets[0]?.bytesRead ?? 0) > 0);
  recorder.call?.pause();
  const [socket] = sockets;
  assert.ok(socket);
  // Unread data turns the close into a reset, after the response.
  body.push(Buffer.alloc(1_000));
  await untilReusable();
  socket.write(response, () => socket.destroy());
  await eventually(() => {
    if (isPaused) body.push(Buffer.alloc(65_536));
    isPaused = !recorder.isBodyUnwanted;
    return recorder.isBodyUnwanted;
  });
  recorder.call?.resume();
  await recorder.over();
  assert.deepEqual([recorder.statusCode, recorder.text, recorder.error], [413, 'no', undefined]);
});

test('a connection with an incomplete body is not reused', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => {
      socket.pause();
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port);
  const early = await sendRequest(upstream, { method: 'POST', body: Buffer.alloc(50_000_000) });
  assert.equal(early.statusCode, 200);
  await sendRequest(upstream);
  assert.equal(sockets.length, 2);
});

test('a body that is not completely written when its response ends arrives complete, and frees its connection', async (t) => {
  const LENGTH = 20_000_000;
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => {
      socket.pause();
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port, { clock });
  const early = await sendRequest(upstream, { method: 'POST', body: Buffer.alloc(LENGTH) });
  assert.equal(early.statusCode, 200);
  const [socket] = sockets;
  assert.ok(socket);
  socket.on('data', () => undefined).resume();
  await eventually(() => socket.bytesRead > LENGTH);
  await clock.advance(250);
  await untilReusable();
  const next = new Recorder();
  upstream.send(GET, next);
  await eventually(() => next.call?.wasSent === true);
  assert.deepEqual([sockets.length, socket.readableEnded], [1, false]);
});

test('a body that the server does not read is aborted 30 seconds after the response ended', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => {
      socket.pause();
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, port, { clock });
  await sendRequest(upstream, { method: 'POST', body: Buffer.alloc(20_000_000) });
  await clock.advance(29_999);
  assert.deepEqual([upstream.pool.connectionCount, sockets.length], [1, 1]);
  await clock.advance(501);
  await eventually(() => upstream.pool.connectionCount === 0);
  assert.equal(clock.pendingCount(), 0);
});

test('sequential uploads leave no listeners on their connection', async (t) => {
  const { port, sockets } = await startRawServer(t, respondingAfter('hello', []));
  const upstream = openUpstream(t, port);
  const warnings: Error[] = [];
  const onWarning = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', onWarning);
  t.after(() => process.off('warning', onWarning));
  for (let i = 0; i < 20; i += 1) {
    const body = Readable.from([Buffer.from('hello')]);
    await sendRequest(upstream, { method: 'POST', headers: ['Content-Length', '5'], body });
  }
  assert.deepEqual([warnings, sockets.length], [[], 1]);
});
