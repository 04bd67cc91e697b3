import { DETECTS_RESETS } from '../support/detects-resets.ts';
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
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
  transcript,
} from './support.ts';

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

/** Pauses after each call and resumes later. */
function pausingRecorder(resume: (recorder: Recorder) => void): Recorder {
  const recorder = new Recorder();
  recorder.onCall = () => {
    recorder.call?.pause();
    resume(recorder);
  };
  return recorder;
}

const RESPONSES: readonly (readonly [name: string, response: string, body: string])[] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
  ['no body', 'HTTP/1.1 204 No Content\r\n\r\n', ''],
  [
    'chunks',
    `HTTP/1.1 103 Early Hints\r\n\r\n${CHUNKED}3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n`,
    'abcde',
  ],
  [
    'megabytes',
    `HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n${'0123456789'.repeat(500_000)}`,
    '0123456789'.repeat(500_000),
  ],
];

for (const [name, response, body] of RESPONSES) {
  for (const [how, resume] of [
    ['within the call', (recorder: Recorder) => recorder.call?.resume()],
    ['a turn later', (recorder: Recorder) => setImmediate(() => recorder.call?.resume())],
    ['a tick later', (recorder: Recorder) => process.nextTick(() => recorder.call?.resume())],
  ] as const) {
    test(`a response with ${name} is the same if its handler pauses at each call and resumes ${how}`, async (t) => {
      const { port, sockets } = await startRawServer(t, responding(response));
      const upstream = openUpstream(t, port);
      for (let i = 0; i < 2; i += 1) {
        const recorder = await sendRequest(upstream, {}, pausingRecorder(resume));
        assert.ok(recorder.text === body);
        assert.equal(recorder.calls.at(-1), 'end');
      }
      assert.equal(sockets.length, 1);
    });
  }
}

for (const pausedAt of ['the call', 'head', 'body'] as const) {
  test(`nothing more is delivered after a pause at ${pausedAt}, even if all has arrived`, async (t) => {
    const parts = ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', '3\r\nabc\r\n'];
    const sent = { 'the call': 0, head: 1, body: 2 }[pausedAt];
    const [early, late] = [parts.slice(0, sent), [...parts.slice(sent), '0\r\n\r\n']];
    const { port, sockets } = await startRawServer(t, (socket, index) => {
      const all = [...parts, '0\r\n\r\n'];
      onHeads(socket, () => socket.write((index === 0 ? early : all).join('')));
    });
    const recorder = new Recorder();
    recorder.onCall = (name) => {
      if (name === pausedAt) recorder.call?.pause();
    };
    const upstream = openUpstream(t, port);
    upstream.send(GET, recorder);
    if (pausedAt === 'the call') {
      await eventually(() => recorder.call?.wasSent === true);
      recorder.call?.pause();
    } else await recorder.until(() => recorder.calls.at(-1) === pausedAt);
    await eventually(() => sockets[0] !== undefined && sockets[0].bytesRead > 0);
    sockets[0]?.write(late.join(''));
    // A response that is sent later has arrived by then.
    await sendRequest(upstream);
    assert.equal(recorder.calls.at(-1), pausedAt === 'the call' ? undefined : pausedAt);
    recorder.call?.resume();
    recorder.call?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['abc', 'end']);
  });
}

test('a pause at the head does not hold body bytes of the same packet', async (t) => {
  const { port } = await startRawServer(t, responding(`${CHUNKED}3\r\nabc\r\n0\r\n\r\n`));
  const recorder = new Recorder();
  recorder.onCall = (name) => {
    if (name === 'head') recorder.call?.pause();
  };
  await sendRequest(openUpstream(t, port), {}, recorder);
  assert.deepEqual(recorder.calls, ['head', 'body', 'end']);
});

test('a paused handler stops the server, whose bytes stay in its buffers', async (t) => {
  const MANY = 200_000_000;
  const { port, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${MANY}\r\n\r\n`);
      socket.write(Buffer.alloc(MANY));
    });
  });
  const recorder = new Recorder();
  const lengths: number[] = [];
  recorder.onBytes = (bytes) => lengths.push(bytes.length) > 1;
  openUpstream(t, port).send(GET, recorder);
  await recorder.until(() => lengths.length === 1);
  const unsent = (): number => sockets[0]?.writableLength ?? 0;
  let last = -1;
  let stillTurns = 0;
  await eventually(() => {
    stillTurns = last === unsent() ? stillTurns + 1 : 0;
    last = unsent();
    return stillTurns === 200;
  });
  assert.ok(unsent() > MANY / 2, `${unsent()} of ${MANY} are left`);
  assert.equal(lengths.length, 1);
  recorder.call?.resume();
  await recorder.over();
  assert.equal(
    lengths.reduce((sum, length) => sum + length),
    MANY,
  );
});

const ENDINGS: readonly (readonly [
  name: string,
  end: (socket: Socket) => void,
  expected: string,
])[] = [
  ['ends', (socket) => socket.end(), 'end'],
  ['resets', (socket) => socket.resetAndDestroy(), DETECTS_RESETS ? 'error' : 'end'],
];

for (const [name, end, expected] of ENDINGS) {
  test(`a server that ${name} while the handler is paused is noticed after the earlier bytes`, async (t) => {
    const { port, sockets } = await startRawServer(t, responding('HTTP/1.1 200 OK\r\n\r\n'));
    const recorder = new Recorder();
    recorder.onCall = (call) => {
      if (call === 'head') recorder.call?.pause();
    };
    const upstream = openUpstream(t, port);
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.includes('head'));
    const [socket] = sockets;
    assert.ok(socket);
    socket.write('hello', () => end(socket));
    await untilReusable();
    assert.equal(recorder.calls.at(-1), 'head');
    recorder.call?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello', expected]);
  });
}

for (const [name, end] of ENDINGS) {
  test(`a complete paused response is delivered, even if the server ${name} meanwhile`, async (t) => {
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n';
    const { port, sockets } = await startRawServer(t, (socket, index) => {
      onHeads(socket, () => socket.write(index === 0 ? head : `${head}hello`));
    });
    const recorder = new Recorder();
    recorder.onCall = (call) => {
      if (call === 'head') recorder.call?.pause();
    };
    const upstream = openUpstream(t, port);
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.includes('head'));
    const [socket] = sockets;
    assert.ok(socket);
    socket.write('hello', () => end(socket));
    await untilReusable();
    recorder.call?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello', 'end']);
    await untilReusable();
    assert.equal((await sendRequest(upstream)).text, 'hello');
    assert.equal(sockets.length, 2, 'its connection serves no other');
  });
}

for (const at of ['head', 'body'] as const) {
  test(`an abort at ${at} closes the connection, and no handler method is called after it`, async (t) => {
    const { port, sockets } = await startRawServer(
      t,
      responding(`${CHUNKED}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`),
    );
    const upstream = openUpstream(t, port);
    const recorder = new Recorder();
    recorder.onCall = (name) => {
      if (name !== at) return;
      recorder.call?.abort();
      recorder.call?.abort();
    };
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.at(-1) === at);
    await eventually(() => sockets[0]?.readableEnded === true || sockets[0]?.destroyed === true);
    await sendRequest(upstream);
    assert.deepEqual([recorder.calls.at(-1), recorder.error], [at, undefined]);
    assert.equal(recorder.calls.filter((name) => name === at).length, 1);
    assert.equal(sockets.length, 2);
  });
}

test('an abort before the request is sent sends nothing and leaves no timer', async (t) => {
  const clock = createTestClock();
  const { port, sockets } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, port, { clock, headTimeoutMs: 1_000 });
  const recorder = new Recorder();
  const call = upstream.send({ ...GET, method: 'POST', body: Buffer.from('hello') }, recorder);
  call.abort();
  await eventually(() => upstream.pool.connectionCount === 0);
  assert.deepEqual([recorder.calls, call.wasSent, clock.pendingCount()], [[], false, 0]);
  assert.ok(sockets.every(({ bytesRead }) => bytesRead === 0));
});

test('an abort while paused closes the connection', async (t) => {
  const { port, sockets } = await startRawServer(t, responding(`${CHUNKED}3\r\nabc\r\n`));
  const recorder = new Recorder();
  const upstream = openUpstream(t, port);
  upstream.send(GET, recorder);
  await recorder.until(() => recorder.calls.includes('body'));
  recorder.call?.pause();
  recorder.call?.abort();
  await eventually(() => sockets[0]?.readableEnded === true || sockets[0]?.destroyed === true);
  await eventually(() => upstream.pool.connectionCount === 0);
  assert.deepEqual(recorder.calls, ['head', 'body']);
});

test('a call whose response has ended does not affect the next one on its connection', async (t) => {
  const { port, sockets } = await startRawServer(t, (socket) => {
    let count = 0;
    onHeads(socket, () => {
      count += 1;
      socket.write(count === 1 ? 'HTTP/1.1 204 No Content\r\n\r\n' : `${CHUNKED}3\r\nabc\r\n`);
    });
  });
  const upstream = openUpstream(t, port);
  const first = await sendRequest(upstream);
  const second = new Recorder();
  upstream.send(GET, second);
  await second.until(() => second.text === 'abc');
  first.call?.pause();
  first.call?.abort();
  sockets[0]?.write('2\r\nde\r\n0\r\n\r\n');
  await second.over();
  assert.deepEqual([second.text, second.error, sockets.length], ['abcde', undefined, 1]);
});

test('a request is released when its response starts, because the response may be a long stream', async (t) => {
  const { port } = await startRawServer(t, (socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nfirst'));
  });
  const recorder = new Recorder();
  const body = Buffer.alloc(50_000);
  const call = openUpstream(t, port).send({ ...GET, method: 'POST', body }, recorder);
  assert.equal(call.request.body, body);
  await recorder.until(() => recorder.text === 'first');
  assert.deepEqual([call.request.head, call.request.body], ['', undefined]);
});
