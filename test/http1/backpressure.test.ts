import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
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
  transcript,
} from './support.ts';

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const REASON = new Error('the client left');

/** Pauses after each call, and resumes a turn later. */
function pausingRecorder(resume: (recorder: Recorder) => void): Recorder {
  const recorder = new Recorder();
  recorder.onCall = () => {
    recorder.source?.pause();
    resume(recorder);
  };
  return recorder;
}

const ANSWERS: readonly (readonly [name: string, answer: string, body: string])[] = [
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

for (const [name, answer, body] of ANSWERS) {
  for (const [how, resume] of [
    ['within the call', (recorder: Recorder) => recorder.source?.resume()],
    ['a turn later', (recorder: Recorder) => setImmediate(() => recorder.source?.resume())],
    ['a tick later', (recorder: Recorder) => process.nextTick(() => recorder.source?.resume())],
  ] as const) {
    test(`an answer with ${name} is the same if its receiver pauses at each call and resumes ${how}`, async (t) => {
      const { origin, sockets } = await startRawServer(t, answering(answer));
      const upstream = openUpstream(t, origin);
      for (let i = 0; i < 2; i += 1) {
        const recorder = await exchange(upstream, {}, pausingRecorder(resume));
        assert.ok(recorder.text === body);
        assert.equal(recorder.calls.at(-1), 'end');
      }
      assert.equal(sockets.length, 1);
    });
  }
}

for (const pausedAt of ['sent', 'head', 'data'] as const) {
  test(`nothing is heard after a pause at ${pausedAt}, though all is there`, async (t) => {
    const answer = `${CHUNKED}3\r\nabc\r\n0\r\n\r\n`;
    const other = 'x'.repeat(answer.length);
    const { origin } = await startRawServer(t, (socket, index) => {
      onHeads(socket, () => socket.write(index === 0 ? answer : `HTTP/1.1 200 OK\r\n\r\n${other}`));
      if (index > 0) socket.on('data', () => socket.end());
    });
    const recorder = new Recorder();
    recorder.onCall = (name) => {
      if (name === pausedAt) recorder.source?.pause();
    };
    const upstream = openUpstream(t, origin);
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.at(-1) === pausedAt);
    await exchange(upstream);
    assert.equal(recorder.calls.at(-1), pausedAt);
    recorder.source?.resume();
    recorder.source?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['abc', 'end']);
  });
}

test('a receiver that pauses stops the server, whose data stays where it is', async (t) => {
  const MANY = 200_000_000;
  const { origin, sockets } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${MANY}\r\n\r\n`);
      socket.write(Buffer.alloc(MANY));
    });
  });
  const recorder = new Recorder();
  const lengths: number[] = [];
  recorder.onCall = (name) => {
    if (name !== 'data') return;
    lengths.push(recorder.chunks.pop()?.length ?? 0);
    if (lengths.length === 1) recorder.source?.pause();
  };
  openUpstream(t, origin).send(GET, recorder);
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
  recorder.source?.resume();
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
  ['resets', (socket) => socket.resetAndDestroy(), 'error'],
];

for (const [name, end, expected] of ENDINGS) {
  test(`a server that ${name} while its receiver pauses is heard of after the data that came before`, async (t) => {
    const { origin, sockets } = await startRawServer(t, answering('HTTP/1.1 200 OK\r\n\r\nhello'));
    const recorder = new Recorder();
    recorder.onCall = (call) => {
      if (call === 'head') recorder.source?.pause();
    };
    const upstream = openUpstream(t, origin);
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.includes('head'));
    if (sockets[0]) end(sockets[0]);
    await cooled();
    assert.equal(recorder.calls.at(-1), 'head');
    recorder.source?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello', expected]);
  });
}

for (const [name, end] of ENDINGS) {
  test(`a whole answer that was paused is delivered whole, though the server ${name} meanwhile`, async (t) => {
    const { origin, sockets } = await startRawServer(
      t,
      answering('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'),
    );
    const recorder = new Recorder();
    recorder.onCall = (call) => {
      if (call === 'head') recorder.source?.pause();
    };
    const upstream = openUpstream(t, origin);
    upstream.send(GET, recorder);
    await recorder.until(() => recorder.calls.includes('head'));
    if (sockets[0]) end(sockets[0]);
    await cooled();
    recorder.source?.resume();
    await recorder.over();
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello', 'end']);
    await cooled();
    assert.equal((await exchange(upstream)).text, 'hello');
    assert.equal(sockets.length, 2, 'its connection serves no other');
  });
}

for (const at of ['sent', 'head', 'data'] as const) {
  test(`an abort at ${at} ends the connection, and only its reason is heard then`, async (t) => {
    const { origin, sockets } = await startRawServer(
      t,
      answering(`${CHUNKED}3\r\nabc\r\n0\r\n\r\n`),
    );
    const upstream = openUpstream(t, origin);
    const recorder = new Recorder();
    recorder.onCall = (name) => {
      if (name !== at) return;
      recorder.source?.abort(REASON);
      recorder.source?.abort(new Error('again'));
      assert.equal(recorder.isOver, false, 'not within the call');
    };
    await exchange(upstream, {}, recorder);
    assert.deepEqual([recorder.error, recorder.calls.at(-2)], [REASON, at]);
    await eventually(() => sockets.every((socket) => socket.readableEnded || socket.destroyed));
    await exchange(upstream);
    assert.equal(sockets.length, 2);
  });
}

test('an abort before anything was sent sends nothing, and leaves no timer', async (t) => {
  const clock = createTestClock();
  const { origin, sockets } = await startRawServer(t, (socket) => transcript(socket));
  const upstream = openUpstream(t, origin, { clock, headTimeoutMs: 1_000 });
  const recorder = new Recorder();
  recorder.onCall = (name) => {
    if (name === 'sent') recorder.source?.abort(REASON);
  };
  upstream.send({ ...GET, method: 'POST', body: Buffer.from('hello') }, recorder);
  await recorder.over();
  assert.equal(clock.pendingCount(), 0);
  await eventually(() => sockets[0]?.destroyed === true || sockets[0]?.readableEnded === true);
  assert.equal(sockets[0]?.bytesRead, 0);
});

test('an abort while paused is heard', async (t) => {
  const { origin } = await startRawServer(t, answering(`${CHUNKED}3\r\nabc\r\n`));
  const recorder = new Recorder();
  openUpstream(t, origin).send(GET, recorder);
  await recorder.until(() => recorder.calls.includes('data'));
  recorder.source?.pause();
  recorder.source?.abort(REASON);
  await recorder.over();
  assert.equal(recorder.error, REASON);
});

test('a receiver whose answer is over has no power over the next one on its connection', async (t) => {
  const { origin, sockets } = await startRawServer(t, (socket) => {
    let count = 0;
    onHeads(socket, () => {
      count += 1;
      socket.write(count === 1 ? 'HTTP/1.1 204 No Content\r\n\r\n' : `${CHUNKED}3\r\nabc\r\n`);
    });
  });
  const upstream = openUpstream(t, origin);
  const first = await exchange(upstream);
  const second = new Recorder();
  upstream.send(GET, second);
  await second.until(() => second.text === 'abc');
  first.source?.pause();
  first.source?.abort(REASON);
  sockets[0]?.write('2\r\nde\r\n0\r\n\r\n');
  await second.over();
  assert.deepEqual([second.text, second.error, sockets.length], ['abcde', undefined, 1]);
});
