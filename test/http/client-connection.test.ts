import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { cooled, eventually, RecordingEnd } from './support.ts';
import {
  echoed,
  echoTarget,
  get,
  RecordingListener,
  startListener,
  type TestListener,
} from './client-support.ts';

const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';

/** The exchanges that a listener has begun, and their listeners. */
interface Begun {
  readonly exchange: IncomingRequest;
  readonly recorder: RecordingListener;
}

/** Keeps every request, and reads its body. */
function keepAll(begun: Begun[]): (exchange: IncomingRequest) => void {
  return (exchange) => {
    const recorder = new RecordingListener();
    begun.push({ exchange, recorder });
    exchange.listen(recorder);
    exchange.readBody();
  };
}

/** What of a request's body is here, framed. */
function bodyOf({ exchange, recorder }: Begun): string {
  return (exchange.takeEarly()?.toString('latin1') ?? '') + recorder.body;
}

describe('a head', () => {
  const head = 'GET /a HTTP/1.1\r\nHost: a\r\nX-B: c\r\n\r\n';

  test('may come in packets cut anywhere', async (t) => {
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

  test('may come byte by byte', async (t) => {
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
    ['a blank before a colon', 'GET / HTTP/1.1\r\nHo', 'st : a\r\n'],
    ['a bare line feed', 'GET / HTTP/1.1\r\nHost: a', '\n'],
    ['another version', 'GET / HTTP/3', '.0\r\n'],
  ] as const) {
    test(`is refused as soon as its line with ${name} has ended`, async (t) => {
      const server = await startListener(t, echoTarget);
      const client = await server.connect();
      client.send(first);
      await eventually(() => server.sockets[0]?.bytesRead === first.length);
      assert.equal(client.received(), '');
      client.send(second);
      await client.untilClosed();
      assert.match(client.received(), /^HTTP\/1\.1 (?:400|505) /);
      assert.equal(server.refused.length, 1);
    });
  }

  test('that is too long is refused before it has ended', async (t) => {
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
  test('are handled one at a time, in order, however they come', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const client = await server.connect();
    client.send(get('/1') + get('/2') + get('/3'));
    for (let i = 1; i <= 3; i += 1) {
      await eventually(() => begun.length === i);
      await cooled();
      const { exchange } = begun[i - 1] ?? {};
      assert.deepEqual([begun.length, exchange?.head.target], [i, `/${i}`]);
      exchange?.respond({ status: 200, headers: [], body: `/${i}` });
    }
    await client.until((text) => text === echoed('/1') + echoed('/2') + echoed('/3'));
  });

  test('share it after bodies of every framing, whose ends may be cut anywhere', async (t) => {
    for (const body of [
      `${POST}Content-Length: 5\r\n\r\nhello`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
    ]) {
      const begun: Begun[] = [];
      const server = await startListener(t, keepAll(begun));
      const client = await server.connect();
      const head = body.indexOf('\r\n\r\n') + 4;
      for (let at = head; at <= body.length; at += 1) {
        begun.length = 0;
        client.send(body.slice(0, at));
        await eventually(() => begun.length === 1);
        client.send(body.slice(at) + get('/next'));
        const [first] = begun;
        assert.ok(first);
        await eventually(() => first.exchange.isBodyComplete);
        assert.equal(bodyOf(first), body.slice(head));
        first.exchange.respond({ status: 200, headers: [], body: '' });
        await eventually(() => begun.length === 2);
        begun[1]?.exchange.respond({ status: 200, headers: [], body: '' });
      }
    }
  });

  test('behind one that was broken off are not read', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const client = await server.connect();
    client.send(`${POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`);
    await eventually(() => begun.length === 1);
    client.send(`zz\r\n${get('/2')}`);
    await eventually(() => begun[0]?.recorder.broken !== undefined);
    assert.equal(begun[0]?.recorder.broken?.status, 400);
    begun[0].exchange.respond({ status: 400, headers: [], body: '' }, true);
    await client.untilClosed();
    assert.equal(begun.length, 1);
  });

  test('whose first bytes of a body are broken reach no handler', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const client = await server.connect();
    client.send(`${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n${get('/2')}`);
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 400 /);
    assert.deepEqual([begun.length, server.refused.length], [0, 1]);
  });

  test('that wait behind one under way are bounded, and all served', async (t) => {
    const COUNT = 2_000;
    const begun: Begun[] = [];
    let serves = false;
    const limits = { connectionBufferBytes: 10_000 };
    const server = await startListener(
      t,
      (exchange) => (serves ? echoTarget(exchange) : keepAll(begun)(exchange)),
      { limits },
    );
    const client = await server.connect();
    const target = `/${'x'.repeat(1_000)}`;
    client.send(get('/first') + get(target).repeat(COUNT));
    await eventually(() => begun.length === 1);
    let last = -1;
    await eventually(() => {
      const isStill = last === server.sockets[0]?.bytesRead;
      last = server.sockets[0]?.bytesRead ?? 0;
      return isStill;
    });
    assert.ok(last < 10_000 + 2 * 65_536, `${last} bytes were read`);
    assert.ok(server.budget.heldBytes >= 10_000 && server.budget.heldBytes <= last);
    serves = true;
    begun[0]?.exchange.respond({ status: 200, headers: [], body: '/first' });
    const length = echoed('/first').length + COUNT * echoed(target).length;
    await client.until((text) => text.length === length);
    assert.equal(server.budget.heldBytes, 0);
  });
});

describe('a body', () => {
  test('that nobody reads waits up to a bound, and comes whole once it is read', async (t) => {
    const LENGTH = 30_000_000;
    const begun: Begun[] = [];
    const limits = { connectionBufferBytes: 10_000 };
    const keep = (exchange: IncomingRequest): void => {
      const recorder = new RecordingListener();
      exchange.listen(recorder);
      begun.push({ exchange, recorder });
    };
    const server = await startListener(t, keep, { limits });
    const client = await server.connect();
    client.send(`${POST}Content-Length: ${LENGTH}\r\n\r\n`);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    await eventually(() => (begun[0]?.exchange.earlyBytes ?? 0) >= 10_000);
    await cooled();
    const [first] = begun;
    assert.ok(first);
    assert.ok(first.exchange.earlyBytes < 10_000 + 2 * 65_536, `${first.exchange.earlyBytes}`);
    assert.ok(server.budget.heldBytes >= 10_000);
    let length = first.exchange.takeEarly()?.length ?? 0;
    first.recorder.onRequestBody = (bytes) => void (length += bytes.length);
    first.exchange.readBody();
    await eventually(() => first.recorder.hasEnded);
    assert.equal(length, LENGTH);
  });

  test('is not read while its reader has paused', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const client = await server.connect();
    client.send(`${POST}Content-Length: 6\r\n\r\nabc`);
    await eventually(() => begun.length === 1);
    begun[0]?.exchange.pauseBody();
    client.send('def');
    await cooled();
    assert.equal(begun[0]?.recorder.hasEnded, false);
    begun[0].exchange.resumeBody();
    await eventually(() => begun[0]?.recorder.hasEnded === true);
  });

  test('that the client does not finish breaks the exchange off', async (t) => {
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const begun: Begun[] = [];
      const server = await startListener(t, keepAll(begun));
      const client = await server.connect();
      client.send(`${POST}Content-Length: 6\r\n\r\nabc`);
      await eventually(() => begun.length === 1);
      client.socket[leave]();
      await eventually(() => begun[0]?.recorder.isGone === true);
      assert.equal(begun[0]?.recorder.hasEnded, false);
      begun[0].exchange.respond({ status: 200, headers: [], body: '' });
      assert.equal(await client.untilClosed(), '');
    }
  });

  for (const [framing, rest] of [
    ['Content-Length: 300000', 'x'.repeat(300_000 - 3)],
    ['Transfer-Encoding: chunked', `${'493e0\r\n'.concat('x'.repeat(300_000))}\r\n0\r\n\r\n`],
  ] as const) {
    test(`that is responded to early is dropped, and the connection goes on: ${framing}`, async (t) => {
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
  test('that is one too many gets a 503 and is closed', async (t) => {
    const server = await startListener(t, echoTarget, { limits: { connections: 2 } });
    const [first] = [await server.connect(), await server.connect()];
    const third = await server.connect();
    assert.match(await third.untilClosed(), /^HTTP\/1\.1 503 .*Retry-After: 1\r\n/s);
    assert.equal(server.refusedConnections(), 1);
    first.socket.destroy();
    await eventually(() => server.sweep.size === 1);
    const fourth = await server.connect();
    fourth.send(get('/4'));
    await fourth.until((text) => text === echoed('/4'));
  });

  const unexpected = new Error('unexpected');
  /** Each throws in another entry from the socket. */
  const THROWING: readonly (readonly [
    name: string,
    handle: (exchange: IncomingRequest) => void,
    provoke: (server: TestListener, send: (text: string) => void) => void,
  ])[] = [
    ['a handler', () => throwUnexpected(), () => undefined],
    ['a reader of bodies', withThrowing('onRequestBody'), (_, send) => send('a')],
    ['who is told the end', withThrowing('onRequestEnd'), (_, send) => send('abc')],
    [
      'who is told of a client that left',
      withThrowing('onClientDisconnected'),
      ({ sockets }) => sockets[0]?.destroy(),
    ],
    [
      'who may write again',
      withThrowing('onClientWritable'),
      ({ sockets }) => sockets[0]?.emit('drain'),
    ],
  ];

  function throwUnexpected(): never {
    throw unexpected;
  }

  function withThrowing(method: keyof RecordingListener): (exchange: IncomingRequest) => void {
    return (exchange) => {
      exchange.listen(Object.assign(new RecordingListener(), { [method]: throwUnexpected }));
      exchange.readBody();
    };
  }

  for (const [name, handle, provoke] of THROWING) {
    test(`ends with an exception of ${name}, and no other does`, async (t) => {
      let count = 0;
      const server = await startListener(t, (exchange) => {
        count += 1;
        if (count === 1) handle(exchange);
        else echoTarget(exchange);
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

  test('that is idle is closed at once when its listener closes, and one under way when it is done', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const [idle, busy, late] = [
      await server.connect(),
      await server.connect(),
      await server.connect(),
    ];
    busy.send(get('/busy'));
    late.send('GET / HT');
    await eventually(() => begun.length === 1 && server.sockets[2]?.bytesRead === 8);
    const closed = server.listener.close(5_000);
    assert.equal(await idle.untilClosed(), '');
    assert.equal(await late.untilClosed(), '');
    assert.equal(server.listener.busyCount(), 1);
    begun[0]?.exchange.respond({ status: 200, headers: [], body: '' });
    assert.match(await busy.untilClosed(), /^HTTP\/1\.1 200 .*Connection: close\r\n/s);
    await closed;
    assert.equal(server.sweep.size, 0);
  });

  test('is given the grace of a closing listener to write its response', async (t) => {
    const LENGTH = 20_000_000;
    for (const closes of ['', 'Connection: close\r\n']) {
      const begun: Begun[] = [];
      const server = await startListener(t, keepAll(begun));
      const client = await server.connect();
      client.send(`GET / HTTP/1.1\r\nHost: a\r\n${closes}\r\n`);
      await eventually(() => begun.length === 1);
      client.socket.pause();
      const { exchange } = begun[0] ?? {};
      exchange?.writeHead(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n`, false, false);
      exchange?.write(Buffer.alloc(LENGTH, 'x'), 0, LENGTH, 'kept');
      exchange?.end();
      const closed = server.listener.close(60_000);
      await cooled();
      client.socket.resume();
      assert.ok((await client.untilClosed()).endsWith('x'.repeat(LENGTH)));
      await closed;
    }
  });

  test('is broken off when the grace of a closing listener is over', async (t) => {
    const begun: Begun[] = [];
    const server = await startListener(t, keepAll(begun));
    const client = await server.connect();
    client.send(get('/'));
    await eventually(() => begun.length === 1);
    await server.listener.close(0);
    assert.equal(await client.untilClosed(), '');
    assert.ok(begun[0]?.recorder.isGone);
  });

  test('asks to be closed while its listener is ending', async (t) => {
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

describe('a client that has ended its side', () => {
  test('gets the responses to all that it has sent, and then the end', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    client.socket.end(get('/1') + get('/2') + get('/3'));
    assert.equal(await client.untilClosed(), echoed('/1') + echoed('/2') + echoed('/3'));
  });

  test('in the middle of a head gets nothing', async (t) => {
    const server = await startListener(t, echoTarget);
    const client = await server.connect();
    client.socket.end(get('/1') + 'GET /2 HT');
    assert.equal(await client.untilClosed(), echoed('/1'));
  });
});

describe('a tunnel', () => {
  const ASK = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
  const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

  /** Switches at once. */
  function switching(upstream: RecordingEnd): (exchange: IncomingRequest) => void {
    return (exchange) => {
      exchange.listen(new RecordingListener());
      exchange.openTunnel(SWITCH, upstream);
    };
  }

  test('gets what came behind the head first, and all that follows', async (t) => {
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

  test('stops reading when its other end takes no more, and goes on when that does', async (t) => {
    const LENGTH = 20_000_000;
    const upstream = new RecordingEnd();
    upstream.mayTakeMore = false;
    let resume: () => void = () => undefined;
    const server = await startListener(t, (exchange) => {
      exchange.listen(new RecordingListener());
      const client = exchange.openTunnel(SWITCH, upstream);
      resume = () => client?.resume();
    });
    const client = await server.connect();
    client.send(ASK);
    await client.until((text) => text === SWITCH);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    await eventually(() => upstream.text !== '');
    const first = upstream.text.length;
    await cooled();
    assert.equal(upstream.text.length, first);
    upstream.mayTakeMore = true;
    resume();
    await eventually(() => upstream.text.length === LENGTH);
  });

  for (const [how, leave] of [
    ['reset', 'resetAndDestroy'],
    ['close', 'end'],
  ] as const) {
    test(`tells its other end of a ${how}`, async (t) => {
      const upstream = new RecordingEnd();
      const server = await startListener(t, switching(upstream));
      const client = await server.connect();
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      client.socket[leave]();
      if (how === 'close') await eventually(() => upstream.hasEnded);
      else await eventually(() => upstream.closedBy === 'reset');
    });
  }

  for (const resets of [true, false]) {
    test(`${resets ? 'is reset' : 'is closed'} as its other end is`, async (t) => {
      const upstream = new RecordingEnd();
      let close: () => void = () => undefined;
      const server = await startListener(t, (exchange) => {
        exchange.listen(new RecordingListener());
        const client = exchange.openTunnel(SWITCH, upstream);
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

  test('that either side has ended is open until the other has', async (t) => {
    const upstream = new RecordingEnd();
    let end: () => void = () => undefined;
    let write: (text: string) => void = () => undefined;
    const server = await startListener(t, (exchange) => {
      exchange.listen(new RecordingListener());
      const client = exchange.openTunnel(SWITCH, upstream);
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
