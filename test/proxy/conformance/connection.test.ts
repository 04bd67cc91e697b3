/** How a connection of a client lives (RFC 9112 §9) and how bodies are asked for (RFC 9110 §10.1.1). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertRefused, get, OK, responsesIn, startWire, statusOf, valuesOf } from './support.ts';

describe('a connection is closed behind the response to', () => {
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
      const wire = await startWire(t);
      const { messages, rest } = await wire.exchange(sent + get('/behind'));
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, 'ok', '']);
      await wire.barrier();
      const targets = wire.app.requests.map(({ startLine }) => startLine.split(' ')[1]);
      assert.deepEqual(targets, ['/', '/barrier']);
    });
  }
});

describe('a connection is kept behind the response to', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['HTTP/1.1', get('/')],
    ['HTTP/1.1 with keep-alive', get('/', 'Connection: Keep-Alive')],
    ['a name that only looks like close', get('/', 'Connection: closed')],
    ['HTTP/1.0 with keep-alive', 'GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t);
      const client = await wire.connect();
      for (const count of [1, 2]) {
        client.send(sent);
        await client.until((text) => responsesIn(text).messages.length === count);
      }
    });
  }

  test('HTTP/1.0 with keep-alive says so (RFC 9112 §C.2.2)', async (t) => {
    const wire = await startWire(t);
    const client = await wire.connect();
    client.send('GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
    const text = await client.until((all) => all.endsWith('ok'));
    const [response] = responsesIn(text).messages;
    assert.ok(response);
    assert.match(valuesOf(response, 'connection').join(), /^keep-alive$/i);
  });
});

describe('a client that sends FIN behind its request gets the response:', () => {
  const large = 'x'.repeat(1_000_000);
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string, response: string, body: string])[] = [
    ['of a length', get('/'), OK, 'ok'],
    ['of 1 MB', get('/'), `HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n${large}`, large],
    ['in chunks', get('/'), 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n', 'ok'],
    ['without a body', get('/'), 'HTTP/1.1 204 No Content\r\n\r\n', ''],
    ['to a body of a length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello', OK, 'ok'],
    ['to a body in chunks', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n', OK, 'ok'],
    ['of HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\n\r\n', OK, 'ok'],
  ];
  for (const [claim, sent, response, body] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t, { respond: (socket) => socket.write(response) });
      const client = await wire.connect();
      client.socket.end(sent, 'latin1');
      const { messages, rest } = responsesIn(await client.untilClosed());
      assert.deepEqual([messages.length, messages[0]?.body, rest], [1, body, '']);
    });
  }

  test('that comes after the FIN', async (t) => {
    const arrived = Promise.withResolvers<() => void>();
    const wire = await startWire(t, {
      respond: (socket) => arrived.resolve(() => void socket.write(OK)),
    });
    const client = await wire.connect();
    client.socket.end(get('/'), 'latin1');
    const respond = await arrived.promise;
    // The FIN has come with the request or right behind it.
    await wire.barrier();
    respond();
    const { messages, rest } = responsesIn(await client.untilClosed());
    assert.deepEqual([messages.map(({ body }) => body), rest], [['ok'], '']);
  });

  test('and those to the requests before it', async (t) => {
    const wire = await startWire(t);
    const client = await wire.connect();
    client.socket.end(get('/1') + get('/2') + get('/3'), 'latin1');
    const { messages } = responsesIn(await client.untilClosed());
    assert.deepEqual(
      messages.map(({ body }) => body),
      ['ok', 'ok', 'ok'],
    );
  });
});

test('a client that sends FIN in the middle of a head gets no response of the app', async (t) => {
  const wire = await startWire(t);
  const client = await wire.connect();
  client.socket.end('GET /cut HTTP/1.1\r\nHost: a\r\nX-A: b');
  const { messages } = responsesIn(await client.untilClosed());
  assert.ok(messages.every(({ startLine }) => statusOf(startLine) === 400));
  await wire.barrier();
  assert.deepEqual(
    wire.app.requests.map(({ startLine }) => startLine),
    ['GET /barrier HTTP/1.1'],
  );
});

test('a request that comes in two pieces is answered behind the second, wherever it is cut', async (t) => {
  const wire = await startWire(t);
  const sent =
    'POST /x?y HTTP/1.1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5;c=d\r\nhello\r\n0\r\nX-E: f\r\n\r\n';
  for (let cut = 1; cut < sent.length; cut += 1) {
    const client = await wire.connect();
    client.send(sent.slice(0, cut));
    await wire.barrier();
    assert.equal(client.received(), '', `cut at ${cut}`);
    client.send(sent.slice(cut));
    await client.until((text) => text.endsWith('ok'));
    const request = wire.app.requests.at(-1);
    assert.deepEqual(
      [request?.startLine, request?.body],
      ['POST /x?y HTTP/1.1', 'hello'],
      `cut at ${cut}`,
    );
    client.socket.destroy();
  }
});

describe('Expect: 100-continue is answered before the body comes', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: string, body: string])[] = [
    ['of a length', 'Expect: 100-continue\r\nContent-Length: 5\r\n', 'hello'],
    ['in chunks', 'Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\n\r\n'],
    ['in other case', 'expect: 100-Continue\r\nContent-Length: 5\r\n', 'hello'],
  ];
  for (const [claim, lines, body] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t);
      const client = await wire.connect();
      client.send(`POST / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
      await client.until((text) => text === 'HTTP/1.1 100 Continue\r\n\r\n');
      client.send(body);
      const text = await client.until((all) => all.endsWith('ok'));
      const statuses = responsesIn(text).messages.map(({ startLine }) => statusOf(startLine));
      assert.deepEqual(statuses, [100, 200]);
      assert.equal(wire.app.requests[0]?.body, 'hello');
    });
  }
});

describe('Expect: 100-continue gets one final response and no more, in step with the next,', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['without a body', get('/', 'Expect: 100-continue')],
    ['with a body that does not wait', 'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t);
      const { messages, rest } = await wire.exchange(sent + get('/2', 'Connection: close'));
      const statuses = messages.map(({ startLine }) => statusOf(startLine));
      assert.deepEqual(
        statuses.filter((status) => status !== 100),
        [200, 200],
      );
      assert.equal(rest, '');
    });
  }

  test('in HTTP/1.0, whose clients know no 100', async (t) => {
    const wire = await startWire(t);
    const { messages } = await wire.exchange(
      'POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello',
    );
    assert.deepEqual(
      messages.map(({ startLine }) => statusOf(startLine)),
      [200],
    );
  });
});

describe('another expectation is answered 417:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...lines: string[]])[] = [
    ['an unknown one', 'Expect: 200-ok'],
    ['one that only looks like it', 'Expect: 100-continued'],
    ['one beside it', 'Expect: 100-continue, x'],
    ['one with a value', 'Expect: x="y"'],
  ];
  for (const [claim, ...lines] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t);
      const { messages } = await wire.exchange(get('/', ...lines, 'Connection: close'));
      assert.deepEqual(
        messages.map(({ startLine }) => statusOf(startLine)),
        [417],
      );
      await wire.barrier();
      assert.equal(wire.app.requests.length, 1);
    });
  }
});

test('a request that is refused is not told to go on', (t) =>
  assertRefused(
    t,
    'POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
  ));
