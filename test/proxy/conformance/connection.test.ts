/** Persistence of client connections (RFC 9112 §9) and `Expect: 100-continue` (RFC 9110 §10.1.1). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  assertRejected,
  get,
  OK,
  responsesIn,
  startRawSidecar,
  statusOf,
  valuesOf,
} from './support.ts';

describe('closes the connection after the response to', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['Connection: close', get('/', 'Connection: close')],
    ['Connection: CLOSE', get('/', 'Connection: CLOSE')],
    ['close in a list', get('/', 'Connection: x-a, close')],
    ['close in a second field', get('/', 'Connection: x-a', 'Connection: close')],
    ['close beside keep-alive', get('/', 'Connection: keep-alive, close')],
    ['HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\n\r\n'],
    ['HTTP/1.0 with close beside keep-alive', 'GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t);
      const { messages, rest } = await sidecar.responsesTo(sent + get('/behind'));
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, 'ok', '']);
      await sidecar.barrier();
      const targets = sidecar.app.requests.map(({ startLine }) => startLine.split(' ')[1]);
      assert.deepEqual(targets, ['/', '/barrier']);
    });
  }
});

describe('keeps the connection open after the response to', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['HTTP/1.1', get('/')],
    ['HTTP/1.1 with keep-alive', get('/', 'Connection: Keep-Alive')],
    ['a connection option that only starts with close', get('/', 'Connection: closed')],
    ['HTTP/1.0 with keep-alive', 'GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t);
      const client = await sidecar.connect();
      for (const count of [1, 2]) {
        client.send(sent);
        await client.until((text) => responsesIn(text).messages.length === count);
      }
    });
  }

  test('HTTP/1.0 with keep-alive, and sends Connection: keep-alive (RFC 9112 §C.2.2)', async (t) => {
    const sidecar = await startRawSidecar(t);
    const client = await sidecar.connect();
    client.send('GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
    const text = await client.until((all) => all.endsWith('ok'));
    const [response] = responsesIn(text).messages;
    assert.ok(response);
    assert.match(valuesOf(response, 'connection').join(), /^keep-alive$/i);
  });
});

describe('a client that sends FIN after its request receives the response', () => {
  const large = 'x'.repeat(1_000_000);
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, response: string, body: string])[] = [
    ['with Content-Length', get('/'), OK, 'ok'],
    ['of 1 MB', get('/'), `HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n${large}`, large],
    ['in chunks', get('/'), 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n', 'ok'],
    ['without a body', get('/'), 'HTTP/1.1 204 No Content\r\n\r\n', ''],
    ['to a body with Content-Length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', OK, 'ok'],
    ['to a body in chunks', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n', OK, 'ok'],
    ['to HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\n\r\n', OK, 'ok'],
  ];
  for (const [claim, sent, response, body] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, { respond: (socket) => socket.write(response) });
      const client = await sidecar.connect();
      client.socket.end(sent, 'latin1');
      const { messages, rest } = responsesIn(await client.untilClosed());
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, body, '']);
    });
  }

  test('that the app sends after the FIN', async (t) => {
    const arrived = Promise.withResolvers<() => void>();
    const sidecar = await startRawSidecar(t, {
      respond: (socket) => arrived.resolve(() => void socket.write(OK)),
    });
    const client = await sidecar.connect();
    client.socket.end(get('/'), 'latin1');
    const respond = await arrived.promise;
    // The FIN arrives with the request or right after it.
    await sidecar.barrier();
    respond();
    const { messages, rest } = responsesIn(await client.untilClosed());
    assert.deepEqual([messages.map(({ body }) => body), rest], [['ok'], '']);
  });

  test('and the responses to the requests before it', async (t) => {
    const sidecar = await startRawSidecar(t);
    const client = await sidecar.connect();
    client.socket.end(get('/1') + get('/2') + get('/3'), 'latin1');
    const { messages } = responsesIn(await client.untilClosed());
    assert.deepEqual(
      messages.map(({ body }) => body),
      ['ok', 'ok', 'ok'],
    );
  });
});

test('a request whose client sends FIN in the middle of the head does not reach the app', async (t) => {
  const sidecar = await startRawSidecar(t);
  const client = await sidecar.connect();
  client.socket.end('GET /cut HTTP/1.1\r\nHost: a\r\nX-A: b');
  const { messages } = responsesIn(await client.untilClosed());
  assert.ok(messages.every(({ startLine }) => statusOf(startLine) === 400));
  await sidecar.barrier();
  assert.deepEqual(
    sidecar.app.requests.map(({ startLine }) => startLine),
    ['GET /barrier HTTP/1.1'],
  );
});

test('the response to a request in two pieces follows the second piece, wherever the split is', async (t) => {
  const sidecar = await startRawSidecar(t);
  const sent =
    'POST /x?y HTTP/1.1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5;c=d\r\nhello\r\n0\r\nX-E: f\r\n\r\n';
  for (let cut = 1; cut < sent.length; cut += 1) {
    const client = await sidecar.connect();
    client.send(sent.slice(0, cut));
    await sidecar.barrier();
    assert.equal(client.received(), '', `cut at ${cut}`);
    client.send(sent.slice(cut));
    await client.until((text) => text.endsWith('ok'));
    const request = sidecar.app.requests.at(-1);
    assert.deepEqual(
      [request?.startLine, request?.body],
      ['POST /x?y HTTP/1.1', 'hello'],
      `cut at ${cut}`,
    );
    client.socket.destroy();
  }
});

describe('Expect: 100-continue gets a 100 response before the body arrives', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string, body: string])[] = [
    ['with Content-Length', 'Expect: 100-continue\r\nContent-Length: 5\r\n', 'hello'],
    ['in chunks', 'Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\n\r\n'],
    ['in another case', 'expect: 100-Continue\r\nContent-Length: 5\r\n', 'hello'],
  ];
  for (const [claim, lines, body] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t);
      const client = await sidecar.connect();
      client.send(`POST / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
      await client.until((text) => text === 'HTTP/1.1 100 Continue\r\n\r\n');
      client.send(body);
      const text = await client.until((all) => all.endsWith('ok'));
      const statuses = responsesIn(text).messages.map(({ startLine }) => statusOf(startLine));
      assert.deepEqual(statuses, [100, 200]);
      assert.equal(sidecar.app.requests[0]?.body, 'hello');
    });
  }
});

describe('Expect: 100-continue gets exactly one final response, and the next request gets its own,', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['without a body', get('/', 'Expect: 100-continue')],
    ['with a body that the client sends at once', 'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t);
      const { messages, rest } = await sidecar.responsesTo(sent + get('/2', 'Connection: close'));
      const statuses = messages.map(({ startLine }) => statusOf(startLine));
      assert.deepEqual(
        statuses.filter((status) => status !== 100),
        [200, 200],
      );
      assert.equal(rest, '');
    });
  }

  test('in HTTP/1.0, which has no 100 response', async (t) => {
    const sidecar = await startRawSidecar(t);
    const { messages } = await sidecar.responsesTo(
      'POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello',
    );
    assert.deepEqual(
      messages.map(({ startLine }) => statusOf(startLine)),
      [200],
    );
  });
});

describe('any other expectation returns 417:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...lines: string[]])[] = [
    ['an unknown expectation', 'Expect: 200-ok'],
    ['one that only starts with 100-continue', 'Expect: 100-continued'],
    ['one next to 100-continue', 'Expect: 100-continue, x'],
    ['one with a value', 'Expect: x="y"'],
  ];
  for (const [claim, ...lines] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t);
      const { messages } = await sidecar.responsesTo(get('/', ...lines, 'Connection: close'));
      assert.deepEqual(
        messages.map(({ startLine }) => statusOf(startLine)),
        [417],
      );
      await sidecar.barrier();
      assert.equal(sidecar.app.requests.length, 1);
    });
  }
});

test('a rejected request gets no 100 response', (t) =>
  assertRejected(
    t,
    'POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
  ));
