import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import {
  answering,
  eventually,
  exchange,
  GET,
  onHeads,
  openUpstream,
  Recorder,
  startRawServer,
} from './support.ts';

const LOST = { code: 'connection-lost', wasNotSent: false, wasReused: false };
const MALFORMED = { code: 'malformed-answer', wasNotSent: false, wasReused: false };

/** Writes these pieces as packets of their own, and then ends or resets the connection, or leaves it open. */
function answerInPieces(
  pieces: string[],
  ending: 'end' | 'reset' | 'open',
): (socket: Socket) => void {
  return (socket) => {
    onHeads(socket, () => {
      let delay = 0;
      for (const piece of pieces) setTimeout(() => socket.write(piece, 'latin1'), (delay += 5));
      if (ending === 'end') setTimeout(() => socket.end(), delay + 5);
      if (ending === 'reset') setTimeout(() => socket.resetAndDestroy(), delay + 5);
    });
  };
}

test('head, data and end are heard in this order, and nothing within the call of send', async (t) => {
  const { origin } = await startRawServer(
    t,
    answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  );
  const upstream = openUpstream(t, origin);
  for (let i = 0; i < 2; i += 1) {
    const recorder = new Recorder();
    upstream.send(GET, recorder);
    assert.deepEqual(recorder.calls, []);
    await recorder.over();
    assert.deepEqual(recorder.calls, ['sent', 'head', 'data', 'end']);
    assert.deepEqual([recorder.statusCode, recorder.text, recorder.rawTrailers], [200, 'ok', []]);
  }
});

test('an answer may come in packets cut anywhere', async (t) => {
  const answer =
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n';
  let at = 0;
  const { origin } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      at += 1;
      socket.write(answer.slice(0, at));
      setImmediate(() => socket.write(answer.slice(at)));
    });
  });
  const upstream = openUpstream(t, origin);
  for (let i = 1; i < answer.length; i += 1) {
    const { text, rawTrailers } = await exchange(upstream);
    assert.deepEqual([text, rawTrailers], ['abcde', ['X', 'y']]);
  }
});

test('informational answers are passed on before the answer, but for 100', async (t) => {
  const informations =
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n';
  const { origin } = await startRawServer(
    t,
    answering(`${informations}HTTP/1.1 204 No Content\r\n\r\n`),
  );
  const recorder = await exchange(openUpstream(t, origin));
  assert.deepEqual(recorder.calls, ['sent', 'information', 'information', 'head', 'end']);
  assert.deepEqual(recorder.informations, [
    { statusCode: 103, rawHeaders: ['Link', '</a>'] },
    { statusCode: 102, rawHeaders: [] },
  ]);
});

test('an answer to HEAD, a 204 and a 304 have no body whatever their fields say', async (t) => {
  const lines = 'Content-Length: 100\r\n\r\n';
  const { origin, sockets } = await startRawServer(
    t,
    answering(
      `HTTP/1.1 200 OK\r\n${lines}`,
      `HTTP/1.1 204 No Content\r\n${lines}`,
      `HTTP/1.1 304 Not Modified\r\n${lines}`,
    ),
  );
  const upstream = openUpstream(t, origin);
  for (const method of ['HEAD', 'GET', 'GET']) {
    assert.deepEqual((await exchange(upstream, { method })).calls, ['sent', 'head', 'end']);
  }
  assert.equal(sockets.length, 1);
});

test('a body without a length is whole when the server ends the connection', async (t) => {
  const pieces = ['HTTP/1.1 200 OK\r\n\r\n', 'hello', ' world'];
  const { origin, sockets } = await startRawServer(t, answerInPieces(pieces, 'end'));
  const upstream = openUpstream(t, origin);
  for (const count of [1, 2]) {
    const recorder = await exchange(upstream);
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello world', 'end']);
    assert.equal(sockets.length, count, 'its connection serves no other');
  }
});

test('a body without a length is broken when the connection is reset', async (t) => {
  const pieces = ['HTTP/1.1 200 OK\r\n\r\n', 'hello'];
  const { origin } = await startRawServer(t, answerInPieces(pieces, 'reset'));
  const recorder = await exchange(openUpstream(t, origin));
  assert.deepEqual([recorder.text, recorder.failure], ['hello', LOST]);
});

const CUT: readonly (readonly [name: string, answer: string])[] = [
  ['nothing', ''],
  ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
  ['an informational head', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
  ['a head that announces a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'],
  ['half a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell'],
  ['a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'],
  ['half a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel'],
  [
    'a last chunk without its empty line',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
  ],
];

for (const [name, answer] of CUT) {
  for (const ending of ['end', 'reset'] as const) {
    test(`an answer that breaks off never ends as if it were whole: ${ending} after ${name}`, async (t) => {
      const { origin } = await startRawServer(t, answerInPieces([answer], ending));
      const recorder = await exchange(openUpstream(t, origin));
      assert.deepEqual(recorder.failure, LOST);
      assert.ok(!recorder.calls.includes('end'));
    });
  }
}

test('what is no answer ends its connection at once, and the next request is served on a new one', async (t) => {
  const { origin, sockets } = await startRawServer(
    t,
    answering(
      'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    ),
  );
  const upstream = openUpstream(t, origin);
  assert.deepEqual((await exchange(upstream)).failure, MALFORMED);
  assert.equal((await exchange(upstream)).statusCode, 200);
  await eventually(() => sockets.length === 2 && sockets[0]?.readableEnded === true);
});

test('data that came before the malformed part was heard, and then the error', async (t) => {
  const { origin, sockets } = await startRawServer(
    t,
    answering('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'),
  );
  const recorder = new Recorder();
  openUpstream(t, origin).send(GET, recorder);
  await recorder.until(() => recorder.text === 'abc');
  sockets[0]?.write('x\r\n');
  await recorder.over();
  assert.deepEqual(recorder.failure, MALFORMED);
});

test('the head that is not whole after the limit is refused', async (t) => {
  const { origin } = await startRawServer(
    t,
    answering(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(1000)}`),
  );
  const recorder = await exchange(openUpstream(t, origin, { maxHeadBytes: 1000 }));
  assert.deepEqual(recorder.failure, MALFORMED);
});

test('what the receiver keeps of a body never changes', async (t) => {
  const bodies = ['a', 'b'.repeat(300), 'c'.repeat(70_000), 'd'.repeat(3_000_000), 'e'];
  const answers = bodies.map(
    (body) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const chunked = bodies.map(
    (body) =>
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n${body.length.toString(16)}\r\n${body}\r\n2\r\nyz\r\n0\r\n\r\n`,
  );
  const { origin } = await startRawServer(t, answering(...answers, ...chunked));
  const upstream = openUpstream(t, origin);
  const kept: Recorder[] = [];
  while (kept.length < 2 * bodies.length) kept.push(await exchange(upstream));
  const expected = [...bodies, ...bodies.map((body) => `x${body}yz`)];
  for (const [i, body] of expected.entries()) assert.ok(kept[i]?.text === body, `body ${i}`);
});

test('memory that was released serves other reads, and never what is still kept', async (t) => {
  const { origin } = await startRawServer(t, (socket, index) => {
    const letter = String.fromCharCode(97 + index);
    const body = letter.repeat(2_000_000);
    onHeads(socket, () =>
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n${body}`),
    );
  });
  const upstream = openUpstream(t, origin);
  const kept: Recorder[] = [];
  for (let round = 0; round < 3; round += 1) {
    const recorders = Array.from({ length: 8 }, () => new Recorder());
    for (const [i, recorder] of recorders.entries()) recorder.releases = i % 2 === 0;
    await Promise.all(recorders.map((recorder) => exchange(upstream, {}, recorder)));
    assert.ok(recorders.some(({ releaseCount }) => releaseCount > 0));
    kept.push(...recorders);
  }
  for (const { text } of kept) assert.ok(text === text.charAt(0).repeat(2_000_000));
});
