import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { untilReusable, eventually, RecordingEnd } from './support.ts';
import {
  echoed,
  echoTarget,
  get,
  RecordingListener,
  startListener,
  type TestListener,
} from './client-support.ts';

const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';

/** A request that reached the handler, and its recorder. */
interface Handled {
  readonly request: IncomingRequest;
  readonly recorder: RecordingListener;
}

/** Records every request, and reads its body. */
function recordAll(handled: Handled[]): (request: IncomingRequest) => void {
  return (request) => {
    const recorder = new RecordingListener();
    handled.push({ request, recorder });
    request.listen(recorder);
    request.readBody();
  };
}

/** The received part of a request body, with its framing. */
function bodyOf({ request, recorder }: Handled): string {
  return (request.takeEarly()?.toString('latin1') ?? '') + recorder.body;
}

describe('a head', () => {
  const head = 'GET /a HTTP/1.1\r\nHost: a\r\nX-B: c\r\n\r\n';

  test('may arrive in any two packets', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    for (let at = 1; at < head.length; at += 1) {
      client.send(head.slice(0, at));
      const read = head.length * (at - 1) + at;
      await eventually(() => server.sockets[0]?.bytesRead === read);
      client.send(head.slice(at));
      await client.until((text) => text === echoed('/a').repeat(at));
    }
  });

  test('may arrive byte by byte', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    for (const [i, byte] of Array.from(head).entries()) {
      client.send(byte);
      await eventually(() => server.sockets[0]?.bytesRead === i + 1);
    }
    assert.equal(await client.until((text) => text.endsWith('/a')), echoed('/a'));
  });

  for (const [name, first, second] of [
    ['a field without a colon', 'GET / HTTP/1.1\r\nHost: a\r\nX', '\r\n'],
    ['a space before a colon', 'GET / HTTP/1.1\r\nHo', 'st : a\r\n'],
    ['a bare line feed', 'GET / HTTP/1.1\r\nHost: a', '\n'],
    ['another version', 'GET / HTTP/3', '.0\r\n'],
  ] as const) {
    test(`is rejected at the end of its line with ${name}`, async (t) => {
      const server = await startListener(t, echoTarget);
      const client = await server.connect();
      client.send(first);
      await eventually(() => server.sockets[0]?.bytesRead === first.length);
      assert.equal(client.received(), '');
      client.send(second);
      await client.untilClosed();
      assert.match(client.received(), /^HTTP\/1\.1 (?:400|505) /);
      assert.equal(server.rejected.length, 1);
    });
  }

  test('that is too long is rejected before it ends', async (t) => {
    const server = await startListener(t, echoTarget, { limits: { headBytes: 1_000 } });
    for (const pieces of [[get('/').slice(0, -2) + 'X: ' + 'x'.repeat(1_000)], ['GET /', '?']]) {
      const client = await server.connect();
      for (const piece of pieces) client.send(piece);
      if (pieces.length > 1) client.send('x'.repeat(500) + ' HTTP/1.1\r\nX: ' + 'x'.repeat(500));
      assert.match(await client.untilClosed(), /^HTTP\/1\.1 431 /);
    }
  });
});

describe('requests of one connection', () => {
  test('are handled one at a time, in order', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const client = await server.connect();
    client.send(get('/1') + get('/2') + get('/3'));
    for (let i = 1; i <= 3; i += 1) {
      await eventually(() => handled.length === i);
      await untilReusable();
      const { request } = handled[i - 1] ?? {};
      assert.deepEqual([handled.length, request?.head.target], [i, `/${i}`]);
      request?.respond({ status: 200, headers: [], body: `/${i}` });
    }
    await client.until((text) => text === echoed('/1') + echoed('/2') + echoed('/3'));
  });

  test('are separated after bodies of every framing, for every split', async (t) => {
    for (const body of [
      `${POST}Content-Length: 5\r\n\r\nhello`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
    ]) {
      const handled: Handled[] = [];
      const server = await startListener(t, recordAll(handled));
      const client = await server.connect();
      const head = body.indexOf('\r\n\r\n') + 4;
      for (let at = head; at <= body.length; at += 1) {
        handled.length = 0;
        client.send(body.slice(0, at));
        await eventually(() => handled.length === 1);
        client.send(body.slice(at) + get('/next'));
        const [first] = handled;
        assert.ok(first);
        await eventually(() => first.request.isBodyComplete);
        assert.equal(bodyOf(first), body.slice(head));
        first.request.respond({ status: 200, headers: [], body: '' });
        await eventually(() => handled.length === 2);
        handled[1]?.request.respond({ status: 200, headers: [], body: '' });
      }
    }
  });

  test('after one that was aborted are not read', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const client = await server.connect();
    client.send(`${POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`);
    await eventually(() => handled.length === 1);
    client.send(`zz\r\n${get('/2')}`);
    await eventually(() => handled[0]?.recorder.malformedBody !== undefined);
    assert.equal(handled[0]?.recorder.malformedBody?.status, 400);
    handled[0].request.respond({ status: 400, headers: [], body: '' }, true);
    await client.untilClosed();
    assert.equal(handled.length, 1);
  });

  test('with a malformed start of the body do not reach the handler', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const client = await server.connect();
    client.send(`${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n${get('/2')}`);
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 400 /);
    assert.deepEqual([handled.length, server.rejected.length], [0, 1]);
  });

  test('with a body that turns out malformed before they are served get one response', async (t) => {
    const handled: IncomingRequest[] = [];
    const server = await startListener(t, (request) => handled.push(request));
    const client = await server.connect(true);
    client.send(`${POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`);
    await eventually(() => handled.length === 1);
    client.send('zz\r\n');
    await client.until((text) => text.startsWith('HTTP/1.1 400 '));
    assert.equal(handled[0]?.isOpen, false);
    handled[0].respond({ status: 200, headers: [], body: '' });
    assert.equal(server.sockets[0]?.errored, null);
  });

  test('that wait for the current one are buffered up to a limit, and all are served', async (t) => {
    const COUNT = 2_000;
    const handled: Handled[] = [];
    let serves = false;
    const limits = { connectionBufferBytes: 10_000 };
    const server = await startListener(
      t,
      (request) => (serves ? echoTarget(request) : recordAll(handled)(request)),
      { limits },
    );
    const client = await server.connect();
    const target = `/${'x'.repeat(1_000)}`;
    client.send(get('/first') + get(target).repeat(COUNT));
    await eventually(() => handled.length === 1);
    let last = -1;
    await eventually(() => {
      const isStill = last === server.sockets[0]?.bytesRead;
      last = server.sockets[0]?.bytesRead ?? 0;
      return isStill;
    });
    assert.ok(last < 10_000 + 2 * 65_536, `${last} bytes were read`);
    assert.ok(server.budget.heldBytes >= 10_000 && server.budget.heldBytes <= last);
    serves = true;
    handled[0]?.request.respond({ status: 200, headers: [], body: '/first' });
    const length = echoed('/first').length + COUNT * echoed(target).length;
    await client.until((text) => text.length === length);
    assert.equal(server.budget.heldBytes, 0);
  });
});

describe('a body', () => {
  test('that is not read is buffered up to a limit, and arrives complete when it is read', async (t) => {
    const LENGTH = 30_000_000;
    const handled: Handled[] = [];
    const limits = { connectionBufferBytes: 10_000 };
    const keep = (request: IncomingRequest): void => {
      const recorder = new RecordingListener();
      request.listen(recorder);
      handled.push({ request, recorder });
    };
    const server = await startListener(t, keep, { limits });
    const client = await server.connect();
    client.send(`${POST}Content-Length: ${LENGTH}\r\n\r\n`);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    await eventually(() => (handled[0]?.request.earlyBytes ?? 0) >= 10_000);
    await untilReusable();
    const [first] = handled;
    assert.ok(first);
    assert.ok(first.request.earlyBytes < 10_000 + 2 * 65_536, `${first.request.earlyBytes}`);
    assert.ok(server.budget.heldBytes >= 10_000);
    let length = first.request.takeEarly()?.length ?? 0;
    first.recorder.onRequestBody = (bytes) => void (length += bytes.length);
    first.request.readBody();
    await eventually(() => first.recorder.hasEnded);
    assert.equal(length, LENGTH);
  });

  test('is not read while its reader is paused', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const client = await server.connect();
    client.send(`${POST}Content-Length: 6\r\n\r\nabc`);
    await eventually(() => handled.length === 1);
    handled[0]?.request.pauseBody();
    client.send('def');
    await untilReusable();
    assert.equal(handled[0]?.recorder.hasEnded, false);
    handled[0].request.resumeBody();
    await eventually(() => handled[0]?.recorder.hasEnded === true);
  });

  test('that the client does not finish aborts the request', async (t) => {
    for (const disconnect of ['end', 'resetAndDestroy'] as const) {
      const handled: Handled[] = [];
      const server = await startListener(t, recordAll(handled));
      const client = await server.connect();
      client.send(`${POST}Content-Length: 6\r\n\r\nabc`);
      await eventually(() => handled.length === 1);
      client.socket[disconnect]();
      await eventually(() => handled[0]?.recorder.hasDisconnected === true);
      assert.equal(handled[0]?.recorder.hasEnded, false);
      handled[0].request.respond({ status: 200, headers: [], body: '' });
      assert.equal(await client.untilClosed(), '');
    }
  });

  for (const [framing, rest] of [
    ['Content-Length: 300000', 'x'.repeat(300_000 - 3)],
    ['Transfer-Encoding: chunked', `${'493e0\r\n'.concat('x'.repeat(300_000))}\r\n0\r\n\r\n`],
  ] as const) {
    test(`with an early response is discarded, and the connection stays open: ${framing}`, async (t) => {
      const server = await startListener(t, echoTarget);
      const client = await server.connect();
      const begin = framing.startsWith('C') ? 'abc' : '3\r\nabc\r\n';
      client.send(`${POST}${framing}\r\n\r\n${begin}`);
      await client.until((text) => text === echoed('/'));
      client.send(rest + get('/next'));
      await client.until((text) => text === echoed('/') + echoed('/next'));
    });
  }
});

describe('a connection', () => {
  test('over the limit gets a 503 and is closed', async (t) => {
    const server = await startListener(t, echoTarget, { limits: { connections: 2 } });
    const [first] = [await server.connect(), await server.connect()];
    const third = await server.connect();
    assert.match(await third.untilClosed(), /^HTTP\/1\.1 503 .*Retry-After: 1\r\n/s);
    assert.equal(server.rejectedConnections(), 1);
    first.socket.destroy();
    await eventually(() => server.sweep.size === 1);
    const fourth = await server.connect();
    fourth.send(get('/4'));
    await fourth.until((text) => text === echoed('/4'));
  });

  const unexpected = new Error('unexpected');
  /** Each row throws in another callback. */
  const THROWING: readonly (readonly [
    name: string,
    handle: (request: IncomingRequest) => void,
    provoke: (server: TestListener, send: (text: string) => void) => void,
  ])[] = [
    ['the handler', () => throwUnexpected(), () => undefined],
    ['onRequestBody', withThrowing('onRequestBody'), (_, send) => send('a')],
    ['onRequestEnd', withThrowing('onRequestEnd'), (_, send) => send('abc')],
    [
      'onClientDisconnected',
      withThrowing('onClientDisconnected'),
      ({ sockets }) => sockets[0]?.destroy(),
    ],
    [
      'onClientWritable',
      withThrowing('onClientWritable'),
      ({ sockets }) => sockets[0]?.emit('drain'),
    ],
  ];

  function throwUnexpected(): never {
    throw unexpected;
  }

  function withThrowing(method: keyof RecordingListener): (request: IncomingRequest) => void {
    return (request) => {
      request.listen(Object.assign(new RecordingListener(), { [method]: throwUnexpected }));
      request.readBody();
    };
  }

  for (const [name, handle, provoke] of THROWING) {
    test(`ends on an exception of ${name}, and no other does`, async (t) => {
      let count = 0;
      const server = await startListener(t, (request) => {
        count += 1;
        if (count === 1) handle(request);
        else echoTarget(request);
      });
      const client = await server.connect();
      const other = await server.connect();
      client.send(`${POST}Content-Length: 3\r\n\r\n`);
      await eventually(() => count === 1);
      provoke(server, (text) => client.send(text));
      assert.equal(await client.untilClosed(), '');
      await eventually(() => server.faults.length === 1);
      assert.deepEqual(server.faults, [unexpected]);
      other.send(get('/other'));
      await other.until((text) => text === echoed('/other'));
    });
  }
});

describe('a connection of a closing listener', () => {
  test('that is idle is closed when its listener closes, and a busy one after its response', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const [idle, busy, late] = [
      await server.connect(),
      await server.connect(),
      await server.connect(),
    ];
    busy.send(get('/busy'));
    late.send('GET / HT');
    await eventually(() => handled.length === 1 && server.sockets[2]?.bytesRead === 8);
    const closed = server.listener.close(5_000);
    assert.equal(await idle.untilClosed(), '');
    assert.equal(await late.untilClosed(), '');
    assert.equal(server.listener.busyCount(), 1);
    handled[0]?.request.respond({ status: 200, headers: [], body: '' });
    assert.match(await busy.untilClosed(), /^HTTP\/1\.1 200 .*Connection: close\r\n/s);
    await closed;
    assert.equal(server.sweep.size, 0);
  });

  test('may write its response within the grace period of a closing listener', async (t) => {
    const LENGTH = 20_000_000;
    for (const closes of ['', 'Connection: close\r\n']) {
      const handled: Handled[] = [];
      const server = await startListener(t, recordAll(handled));
      const client = await server.connect();
      client.send(`GET / HTTP/1.1\r\nHost: a\r\n${closes}\r\n`);
      await eventually(() => handled.length === 1);
      client.socket.pause();
      const { request } = handled[0] ?? {};
      request?.writeHead(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n`, false, false);
      request?.write(Buffer.alloc(LENGTH, 'x'), 0, LENGTH, 'kept');
      request?.end();
      const closed = server.listener.close(60_000);
      await untilReusable();
      client.socket.resume();
      assert.ok((await client.untilClosed()).endsWith('x'.repeat(LENGTH)));
      await closed;
    }
  });

  test('is aborted after the grace period of a closing listener', async (t) => {
    const handled: Handled[] = [];
    const server = await startListener(t, recordAll(handled));
    const client = await server.connect();
    client.send(get('/'));
    await eventually(() => handled.length === 1);
    await server.listener.close(0);
    assert.equal(await client.untilClosed(), '');
    assert.ok(handled[0]?.recorder.hasDisconnected);
  });

  test('gets Connection: close while its listener is ending', async (t) => {
    let isEnding = false;
    const server = await startListener(t, echoTarget, { isEnding: () => isEnding });
    const client = await server.connect();
    client.send(get('/'));
    await client.until((text) => text === echoed('/'));
    isEnding = true;
    client.send(get('/'));
    assert.match(await client.untilClosed(), /200 OK\r\n[^]*200 OK\r\n[^]*Connection: close\r\n/);
  });
});

describe('a client that has half-closed', () => {
  test('gets the responses to all its requests, and then the end', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    client.socket.end(get('/1') + get('/2') + get('/3'));
    assert.equal(await client.untilClosed(), echoed('/1') + echoed('/2') + echoed('/3'));
  });

  test('in the middle of a head gets no response to it', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    client.socket.end(get('/1') + 'GET /2 HT');
    assert.equal(await client.untilClosed(), echoed('/1'));
  });
});

describe('a tunnel', () => {
  const ASK = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
  const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

  /** Opens a tunnel for each request. */
  function switching(upstream: RecordingEnd): (request: IncomingRequest) => void {
    return (request) => {
      request.listen(new RecordingListener());
      request.openTunnel(SWITCH, upstream);
    };
  }

  test('receives the bytes after the head, and all that follow', async (t) => {
    const upstream = new RecordingEnd();
    const server = await startListener(t, switching(upstream));
    const client = await server.connect();
    client.send(`${ASK}early`);
    await client.until((text) => text === SWITCH);
    await eventually(() => upstream.text === 'early');
    client.send(' late');
    await eventually(() => upstream.text === 'early late');
    assert.equal(server.listener.busyCount(), 1);
  });

  test('stops reading while its other end is not writable, and then continues', async (t) => {
    const LENGTH = 20_000_000;
    const upstream = new RecordingEnd();
    upstream.isWritable = false;
    let resume: () => void = () => undefined;
    const server = await startListener(t, (request) => {
      request.listen(new RecordingListener());
      const client = request.openTunnel(SWITCH, upstream);
      resume = () => client?.resume();
    });
    const client = await server.connect();
    client.send(ASK);
    await client.until((text) => text === SWITCH);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    await eventually(() => upstream.text !== '');
    const first = upstream.text.length;
    await untilReusable();
    assert.equal(upstream.text.length, first);
    upstream.isWritable = true;
    resume();
    await eventually(() => upstream.text.length === LENGTH);
  });

  for (const [how, disconnect] of [
    ['reset', 'resetAndDestroy'],
    ['close', 'end'],
  ] as const) {
    test(`passes a ${how} to its other end`, async (t) => {
      const upstream = new RecordingEnd();
      const server = await startListener(t, switching(upstream));
      const client = await server.connect();
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      client.socket[disconnect]();
      if (how === 'close') await eventually(() => upstream.hasEnded);
      else await eventually(() => upstream.closedBy === 'reset');
    });
  }

  for (const resets of [true, false]) {
    test(`is ${resets ? 'reset' : 'closed'} when its other end is`, async (t) => {
      const upstream = new RecordingEnd();
      let close: () => void = () => undefined;
      const server = await startListener(t, (request) => {
        request.listen(new RecordingListener());
        const client = request.openTunnel(SWITCH, upstream);
        close = () => client?.closeTunnel(resets);
      });
      const client = await server.connect();
      let error: NodeJS.ErrnoException | undefined;
      client.socket.on('error', (reason) => (error = reason));
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      close();
      await client.untilClosed();
      assert.equal(error?.code, resets ? 'ECONNRESET' : undefined);
      await eventually(() => server.listener.busyCount() === 0 && server.sweep.size === 0);
    });
  }

  test('with one side ended stays open until the other ends', async (t) => {
    const upstream = new RecordingEnd();
    let end: () => void = () => undefined;
    let write: (text: string) => void = () => undefined;
    const server = await startListener(t, (request) => {
      request.listen(new RecordingListener());
      const client = request.openTunnel(SWITCH, upstream);
      end = () => client?.end();
      write = (text) => client?.write(Buffer.from(text), 0, text.length, 'kept');
    });
    const client = await server.connect();
    client.socket.end(ASK);
    await eventually(() => upstream.hasEnded);
    write('you too');
    end();
    assert.equal(await client.untilClosed(), `${SWITCH}you too`);
    await eventually(() => upstream.closedBy === 'close');
  });
});
