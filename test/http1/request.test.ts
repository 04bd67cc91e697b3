import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import type { UpstreamRequest } from '../../src/proxy/upstream.ts';
import {
  eventually,
  exchange,
  GET,
  openUpstream,
  Recorder,
  startRawServer,
  transcript,
} from './support.ts';

const DONE = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';

/** What the server gets: it answers once it has seen `last`. */
function answeringAfter(last: string, seen: string[]): (socket: Socket) => void {
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
  readonly request: Partial<UpstreamRequest>;
  readonly expected: string;
}

const SENT: readonly Sent[] = [
  {
    name: 'headers go out in order and case, Host where it stands',
    request: {
      path: '/a?b=%7E#\xe9',
      headers: ['X-b', 'caf\xe9', 'host', 'h', 'x-B', '', 'A', 'b\tc'],
    },
    expected:
      'GET /a?b=%7E#\xe9 HTTP/1.1\r\nX-b: caf\xe9\r\nhost: h\r\nx-B: \r\nA: b\tc\r\nConnection: keep-alive\r\n\r\n',
  },
  {
    name: 'a request without a body keeps its Content-Length of 0',
    request: { method: 'POST', headers: ['Content-Length', '0'] },
    expected: 'POST / HTTP/1.1\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n',
  },
  {
    name: 'a buffer goes out as it is',
    request: {
      method: 'POST',
      headers: ['Content-Length', '4'],
      body: Buffer.from('\x00\xff\r\n', 'latin1'),
    },
    expected: 'POST / HTTP/1.1\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\n\x00\xff\r\n',
  },
  {
    name: 'a buffer without a Content-Length gets one',
    request: { method: 'PUT', headers: [], body: Buffer.from('abc') },
    expected: 'PUT / HTTP/1.1\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc',
  },
  {
    name: 'a stream of known length goes out as it is',
    request: {
      method: 'POST',
      headers: ['content-length', '5'],
      body: Readable.from([Buffer.from('he'), Buffer.from('llo')]),
    },
    expected: 'POST / HTTP/1.1\r\ncontent-length: 5\r\nConnection: keep-alive\r\n\r\nhello',
  },
  {
    name: 'a stream of unknown length goes out in chunks',
    request: {
      method: 'POST',
      headers: [],
      body: Readable.from([Buffer.from('h'), Buffer.alloc(0), Buffer.from('ello world')]),
    },
    expected:
      'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n1\r\nh\r\na\r\nello world\r\n0\r\n\r\n',
  },
  {
    name: 'an empty stream of unknown length is the last chunk',
    request: { method: 'POST', headers: [], body: Readable.from([]) },
    expected:
      'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n',
  },
  {
    name: 'a stream of text goes out as UTF-8, measured in bytes',
    request: { method: 'POST', headers: [], body: Readable.from(['\u20ac']) },
    expected:
      'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n3\r\n\xe2\x82\xac\r\n0\r\n\r\n',
  },
];

for (const { name, request, expected } of SENT) {
  test(name, async (t) => {
    const seen: string[] = [];
    const { origin } = await startRawServer(t, answeringAfter(expected.slice(-5), seen));
    const answer = await exchange(openUpstream(t, origin), request);
    assert.equal(answer.errorCode, undefined);
    assert.deepEqual(seen, [expected]);
  });
}

test('a large buffer and a large stream arrive whole', async (t) => {
  const body = Buffer.alloc(1_000_000, 'abcdefghij');
  const seen: string[] = [];
  const { origin, sockets } = await startRawServer(t, answeringAfter('j0\r\n\r\n', seen));
  const upstream = openUpstream(t, origin);
  const whole = Buffer.concat([body, Buffer.from('0\r\n\r\n')]);
  await exchange(upstream, { method: 'POST', body: whole });
  const pieces = Array.from({ length: 100 }, (_, i) =>
    whole.subarray(i * 10_001, (i + 1) * 10_001),
  );
  const headers = ['Content-Length', String(whole.length)];
  await exchange(upstream, { method: 'POST', headers, body: Readable.from(pieces) });
  const bodies = seen.map((text) => text.slice(text.indexOf('\r\n\r\n') + 4));
  assert.deepEqual(bodies, [whole.toString('latin1'), whole.toString('latin1')]);
  assert.equal(sockets.length, 1);
});

const MALFORMED: readonly (readonly [name: string, request: Partial<UpstreamRequest>])[] = [
  ['a method with a space', { method: 'GET /x' }],
  ['an empty method', { method: '' }],
  ['a method with a line break', { method: 'GET\r\n' }],
  ['CONNECT', { method: 'CONNECT' }],
  ['an empty target', { path: '' }],
  ['a target with a space', { path: '/a HTTP/1.1' }],
  ['a target with a line break', { path: '/a\r\nX: y' }],
  ['a target with a DEL', { path: '/\x7f' }],
  ['a target with a character whose low byte is a line feed', { path: '/\u010a' }],
  ['a name with a space', { headers: ['X A', 'b'] }],
  ['a name with a colon', { headers: ['X: a\r\nY', 'b'] }],
  ['an empty name', { headers: ['', 'b'] }],
  ['a name beyond latin-1', { headers: ['X\u010a', 'b'] }],
  ['a value with CR LF', { headers: ['X', 'a\r\nY: b'] }],
  ['a value with LF', { headers: ['X', 'a\nY: b'] }],
  ['a value with CR', { headers: ['X', 'a\rb'] }],
  ['a value with NUL', { headers: ['X', 'a\0'] }],
  [
    'a value with characters whose low bytes are CR and LF',
    { headers: ['X', 'a\u010d\u010aY: b'] },
  ],
  ['Transfer-Encoding from the caller', { headers: ['transfer-ENCODING', 'chunked'] }],
  ['Connection from the caller', { headers: ['Connection', 'close'] }],
  ['Upgrade from the caller', { headers: ['Upgrade', 'x'] }],
  ['an upgrade with a line break', { upgrade: 'x\r\nY: z' }],
  ['a Content-Length that is none', { headers: ['Content-Length', '+1'], body: Buffer.from('a') }],
  [
    'two Content-Lengths',
    { headers: ['Content-Length', '1', 'content-length', '1'], body: Buffer.from('a') },
  ],
  ['a Content-Length without a body', { headers: ['Content-Length', '1'] }],
  [
    'a Content-Length that is too small',
    { headers: ['Content-Length', '1'], body: Buffer.from('ab') },
  ],
  [
    'a Content-Length that is too large',
    { headers: ['Content-Length', '3'], body: Buffer.from('ab') },
  ],
];

test('what is not a request is never sent, and no connection is made for it', async (t) => {
  const { origin, sockets } = await startRawServer(t, () => undefined);
  const upstream = openUpstream(t, origin);
  for (const [name, request] of MALFORMED) {
    const recorder = new Recorder();
    upstream.send({ ...GET, ...request }, recorder);
    assert.deepEqual(recorder.calls, [], 'nothing is called within the call of send');
    await recorder.over();
    const failure = { code: 'malformed-request', wasNotSent: true, wasReused: false };
    assert.deepEqual([recorder.failure, recorder.calls], [failure, ['error']], name);
  }
  assert.equal(sockets.length, 0);
});

test('a request that is not sent lets go of its body', async (t) => {
  const { origin } = await startRawServer(t, () => undefined);
  const body = new PassThrough();
  await exchange(openUpstream(t, origin), { method: 'NOT ONE', body });
  assert.ok(body.destroyed);
});

interface BrokenBody {
  readonly name: string;
  readonly headers: string[];
  readonly breakOff: (body: PassThrough) => void;
}

const BROKEN: readonly BrokenBody[] = [
  {
    name: 'is longer than it said',
    headers: ['Content-Length', '5'],
    breakOff: (body) => body.write('defg'),
  },
  {
    name: 'is shorter than it said',
    headers: ['Content-Length', '5'],
    breakOff: (body) => body.end('d'),
  },
  {
    name: 'fails',
    headers: ['Content-Length', '5'],
    breakOff: (body) => body.destroy(new Error('lost')),
  },
  { name: 'is closed', headers: ['Content-Length', '5'], breakOff: (body) => body.destroy() },
  { name: 'fails, in chunks', headers: [], breakOff: (body) => body.destroy(new Error('lost')) },
  { name: 'is closed, in chunks', headers: [], breakOff: (body) => body.destroy() },
];

for (const { name, headers, breakOff } of BROKEN) {
  test(`a body that ${name} takes its connection with it, and no byte too many goes out`, async (t) => {
    const seen: { text: string; hasEnded: boolean }[] = [];
    const { origin } = await startRawServer(t, (socket) => seen.push(transcript(socket)));
    const body = new PassThrough();
    const recorder = new Recorder();
    openUpstream(t, origin).send({ ...GET, method: 'POST', headers, body }, recorder);
    body.write('abc');
    await eventually(() => seen[0]?.text.includes('abc') ?? false);
    breakOff(body);
    await recorder.over();
    const failure = { code: 'request-body-failed', wasNotSent: false, wasReused: false };
    assert.deepEqual(recorder.failure, failure);
    await eventually(() => seen[0]?.hasEnded ?? false);
    assert.match(seen[0]?.text ?? '', /\r\n\r\n(3\r\n)?abc(\r\n|d)?$/);
    assert.ok(body.destroyed);
  });
}

test('a body that fails while the connection is still being made is no crash', async (t) => {
  const { origin } = await startRawServer(t, () => undefined);
  const body = new PassThrough();
  const recorder = new Recorder();
  openUpstream(t, origin).send({ ...GET, method: 'POST', headers: [], body }, recorder);
  body.destroy(new Error('the client left'));
  await recorder.over();
  assert.equal(recorder.errorCode, 'request-body-failed');
});

test('a body that was read to its end by others before is too short', async (t) => {
  const { origin } = await startRawServer(t, () => undefined);
  const body = Readable.from([Buffer.from('abc')]);
  await once(body.resume(), 'end');
  const headers = ['Content-Length', '3'];
  const recorder = await exchange(openUpstream(t, origin), { method: 'POST', headers, body });
  assert.equal(recorder.errorCode, 'request-body-failed');
});

test('a server that takes no more holds back the body, and takes it whole afterwards', async (t) => {
  const CHUNK = Buffer.alloc(65_536, 'x');
  const COUNT = 1024;
  const { origin, sockets } = await startRawServer(t, (socket) => socket.pause());
  let made = 0;
  const body = new Readable({
    read() {
      made += 1;
      this.push(made <= COUNT ? CHUNK : null);
    },
  });
  const recorder = new Recorder();
  const headers = ['Content-Length', String(COUNT * CHUNK.length)];
  openUpstream(t, origin).send({ ...GET, method: 'POST', headers, body }, recorder);
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

test('an answer that comes before the body was sent is delivered whole, and the connection ends', async (t) => {
  const answer = 'HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\n';
  const { origin, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => {
      socket.write(`${answer}no`);
      setImmediate(() => socket.write('no!'));
    });
  });
  const upstream = openUpstream(t, origin);
  for (const headers of [['Content-Length', '100'], []]) {
    const body = new PassThrough();
    body.write('abc');
    const early = await exchange(upstream, { method: 'POST', headers, body });
    assert.deepEqual([early.statusCode, early.text, early.calls.at(-1)], [413, 'nono!', 'end']);
    assert.ok(body.destroyed);
  }
  await eventually(() => sockets.length === 2 && sockets.every((socket) => socket.readableEnded));
});

test('a buffer that was not all written when its answer ended is not followed by another request', async (t) => {
  const { origin, sockets } = await startRawServer(t, (socket) => {
    socket.once('data', () => {
      socket.pause();
      socket.write(DONE);
    });
  });
  const upstream = openUpstream(t, origin);
  const early = await exchange(upstream, { method: 'POST', body: Buffer.alloc(50_000_000) });
  assert.equal(early.statusCode, 200);
  await exchange(upstream);
  assert.equal(sockets.length, 2);
});

test('uploads one after the other leave nothing behind on their connection', async (t) => {
  const { origin, sockets } = await startRawServer(t, answeringAfter('hello', []));
  const upstream = openUpstream(t, origin);
  const warnings: Error[] = [];
  const onWarning = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', onWarning);
  t.after(() => process.off('warning', onWarning));
  for (let i = 0; i < 20; i += 1) {
    const body = Readable.from([Buffer.from('hello')]);
    await exchange(upstream, { method: 'POST', headers: ['Content-Length', '5'], body });
  }
  assert.deepEqual([warnings, sockets.length], [[], 1]);
});
