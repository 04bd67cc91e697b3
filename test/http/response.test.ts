import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import {
  untilReusable,
  eventually,
  sendRequest,
  GET,
  onHeads,
  openUpstream,
  Recorder,
  responding,
  startRawServer,
} from './support.ts';

const LOST = { code: 'connection-lost', wasNotSent: false, wasReused: false };
const MALFORMED = { code: 'malformed-response', wasNotSent: false, wasReused: false };

/** Writes these pieces in separate packets, and then ends or resets the connection, or leaves it open. */
function respondInPieces(
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

test('head, body and end are called in this order, and none within send()', async (t) => {
  const { port } = await startRawServer(
    t,
    responding('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  );
  const upstream = openUpstream(t, port);
  for (let i = 0; i < 2; i += 1) {
    const recorder = new Recorder();
    upstream.send(GET, recorder);
    assert.deepEqual(recorder.calls, []);
    await recorder.over();
    assert.deepEqual(recorder.calls, ['head', 'body', 'end']);
    assert.deepEqual([recorder.statusCode, recorder.text], [200, 'ok']);
  }
});

const CHUNKED_HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const CHUNKED_BODY = '3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n';

for (const [how, decodes, body] of [
  ['decoded', true, 'abcde'],
  ['with its framing', false, CHUNKED_BODY],
] as const) {
  test(`a response may arrive in any packets: its body is delivered ${how}`, async (t) => {
    const response = CHUNKED_HEAD + CHUNKED_BODY;
    let at = 0;
    const { port } = await startRawServer(t, (socket) => {
      onHeads(socket, () => {
        at += 1;
        socket.write(response.slice(0, at));
        setImmediate(() => socket.write(response.slice(at)));
      });
    });
    const upstream = openUpstream(t, port);
    for (let i = 1; i < response.length; i += 1) {
      const recorder = Object.assign(new Recorder(), { decodes });
      assert.equal((await sendRequest(upstream, {}, recorder)).text, body);
    }
  });
}

test('trailers that frame, route or reveal a session are not passed on with the chunks', async (t) => {
  const trailers =
    'Content-Length: 9\r\nX-Sum: 1\r\nFly-Replay: a\r\nMcp-Session-Id: b\r\nx-end: 2\r\n';
  const { port } = await startRawServer(
    t,
    responding(`${CHUNKED_HEAD}1;x="y"\r\na\r\n0\r\n${trailers}\r\n`),
  );
  const recorder = Object.assign(new Recorder(), { decodes: false });
  await sendRequest(openUpstream(t, port), {}, recorder);
  assert.equal(recorder.text, '1;x="y"\r\na\r\n0\r\nX-Sum: 1\r\nx-end: 2\r\n\r\n');
});

test('interim responses are passed on before the response, including 100', async (t) => {
  const interims =
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n';
  const { port } = await startRawServer(
    t,
    responding(`${interims}HTTP/1.1 204 No Content\r\n\r\n`),
  );
  const recorder = await sendRequest(openUpstream(t, port));
  assert.deepEqual(recorder.calls, ['interim', 'interim', 'interim', 'head', 'end']);
  assert.deepEqual(recorder.interims, [
    { statusCode: 100, rawHeaders: [] },
    { statusCode: 103, rawHeaders: ['Link', '</a>'] },
    { statusCode: 102, rawHeaders: [] },
  ]);
});

test('every interim response is passed on, up to a limit', async (t) => {
  const processing = 'HTTP/1.1 102 Processing\r\n\r\n';
  const last = 'HTTP/1.1 204 No Content\r\n\r\n';
  const { port } = await startRawServer(
    t,
    responding(processing.repeat(3600) + last, processing.repeat(3601) + last),
  );
  const upstream = openUpstream(t, port);
  const bounded = await sendRequest(upstream);
  assert.deepEqual([bounded.statusCode, bounded.interims.length], [204, 3600]);
  assert.deepEqual((await sendRequest(upstream)).failure, MALFORMED);
});

test('a response to HEAD, a 204 and a 304 have no body, whatever their fields are', async (t) => {
  const lines = 'Content-Length: 100\r\n\r\n';
  const { port, sockets } = await startRawServer(
    t,
    responding(
      `HTTP/1.1 200 OK\r\n${lines}`,
      `HTTP/1.1 204 No Content\r\n${lines}`,
      `HTTP/1.1 304 Not Modified\r\n${lines}`,
    ),
  );
  const upstream = openUpstream(t, port);
  for (const method of ['HEAD', 'GET', 'GET']) {
    assert.deepEqual((await sendRequest(upstream, { method })).calls, ['head', 'end']);
  }
  assert.equal(sockets.length, 1);
});

test('a body without a length is complete when the server ends the connection', async (t) => {
  const pieces = ['HTTP/1.1 200 OK\r\n\r\n', 'hello', ' world'];
  const { port, sockets } = await startRawServer(t, respondInPieces(pieces, 'end'));
  const upstream = openUpstream(t, port);
  for (const count of [1, 2]) {
    const recorder = await sendRequest(upstream);
    assert.deepEqual([recorder.text, recorder.calls.at(-1)], ['hello world', 'end']);
    assert.equal(sockets.length, count, 'its connection serves no other');
  }
});

test('a body without a length is aborted when the connection is reset', async (t) => {
  const pieces = ['HTTP/1.1 200 OK\r\n\r\n', 'hello'];
  const { port } = await startRawServer(t, respondInPieces(pieces, 'reset'));
  const recorder = await sendRequest(openUpstream(t, port));
  assert.deepEqual([recorder.text, recorder.failure], ['hello', LOST]);
});

const CUT: readonly (readonly [name: string, response: string])[] = [
  ['nothing', ''],
  ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
  ['an interim response', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
  ['a head that announces a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'],
  ['half a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell'],
  ['a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'],
  ['half a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel'],
  [
    'a last chunk without its empty line',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
  ],
];

for (const [name, response] of CUT) {
  for (const ending of ['end', 'reset'] as const) {
    test(`an aborted response never ends as complete: ${ending} after ${name}`, async (t) => {
      const { port } = await startRawServer(t, respondInPieces([response], ending));
      const recorder = await sendRequest(openUpstream(t, port));
      assert.deepEqual(recorder.failure, LOST);
      assert.ok(!recorder.calls.includes('end'));
    });
  }
}

test('an invalid response closes its connection, and the next request uses a new one', async (t) => {
  const { port, sockets } = await startRawServer(
    t,
    responding(
      'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    ),
  );
  const upstream = openUpstream(t, port);
  assert.deepEqual((await sendRequest(upstream)).failure, MALFORMED);
  assert.equal((await sendRequest(upstream)).statusCode, 200);
  await eventually(() => sockets.length === 2 && sockets[0]?.readableEnded === true);
});

for (const [name, first, second] of [
  ['a bare line feed', 'HTTP/1.1 200 OK', '\nContent-Length: 0'],
  ['a field without a colon', 'HTTP/1.1 200 OK\r\nX', '\r\n'],
  ['a code that is not a number', 'HTTP/1.1 2', 'x0 OK\r\n'],
  ['a trailer without a colon', `${CHUNKED_HEAD}0\r\nX`, '\r\n'],
] as const) {
  test(`an invalid response is rejected at the end of its line with ${name}`, async (t) => {
    const { port, sockets } = await startRawServer(t, responding(first));
    const recorder = new Recorder();
    openUpstream(t, port).send(GET, recorder);
    await eventually(() => (sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    assert.equal(recorder.isOver, false);
    sockets[0]?.write(second);
    await recorder.over();
    assert.deepEqual(recorder.failure, MALFORMED);
  });
}

test('data before the malformed part is passed on, and then the error', async (t) => {
  const { port, sockets } = await startRawServer(
    t,
    responding('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'),
  );
  const recorder = new Recorder();
  openUpstream(t, port).send(GET, recorder);
  await recorder.until(() => recorder.text === 'abc');
  sockets[0]?.write('x\r\n');
  await recorder.over();
  assert.deepEqual(recorder.failure, MALFORMED);
});

test('a head that is incomplete at the limit is rejected', async (t) => {
  const { port } = await startRawServer(t, responding(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(1000)}`));
  const recorder = await sendRequest(openUpstream(t, port, { headBytes: 1000 }));
  assert.deepEqual(recorder.failure, MALFORMED);
});

test('bytes that may be kept never change', async (t) => {
  const bodies = ['a', 'b'.repeat(300), 'c'.repeat(70_000), 'd'.repeat(3_000_000), 'e'];
  const responses = bodies.map(
    (body) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const chunked = bodies.map(
    (body) =>
      `${CHUNKED_HEAD}1\r\nx\r\n${body.length.toString(16)}\r\n${body}\r\n2\r\nyz\r\n0\r\n\r\n`,
  );
  const { port } = await startRawServer(t, responding(...responses, ...chunked));
  const upstream = openUpstream(t, port);
  const recorders: Recorder[] = [];
  while (recorders.length < 2 * bodies.length) recorders.push(await sendRequest(upstream));
  const expected = [...bodies, ...bodies.map((body) => `x${body}yz`)];
  for (const [i, body] of expected.entries()) assert.ok(recorders[i]?.text === body, `body ${i}`);
});

/** A text in which no two parts are equal, nor equal to a part of another letter's text. */
function numberedBody(letter: string): string {
  let body = '';
  for (let i = 0; i < 250_000; i += 1) body += letter + String(i).padStart(7, '0');
  return body;
}

test('bytes that are lent do not change until their receiver continues', async (t) => {
  const bodies = new Map(Array.from('abcdefgh', (letter) => [letter, numberedBody(letter)]));
  const { port } = await startRawServer(t, (socket, index) => {
    const body = bodies.get(String.fromCharCode(97 + index)) ?? '';
    onHeads(socket, () =>
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
    );
  });
  const upstream = openUpstream(t, port);
  for (let round = 0; round < 3; round += 1) {
    const recorders = Array.from({ length: 8 }, () => new Recorder());
    let lentCount = 0;
    for (const recorder of recorders) {
      recorder.onBytes = (bytes, ownership) => {
        if (ownership === 'lent') lentCount += 1;
        const kept = ownership === 'shared' ? Buffer.from(bytes) : bytes;
        setImmediate(() => {
          recorder.chunks.push(Buffer.from(kept));
          recorder.call?.resume();
        });
        return false;
      };
    }
    await Promise.all(recorders.map((recorder) => sendRequest(upstream, {}, recorder)));
    await untilReusable();
    assert.ok(lentCount > 0);
    for (const { text } of recorders) assert.ok(text === bodies.get(text.charAt(0)));
  }
});
