/** How long a client's connection waits for what, by a clock that the test moves. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { LINGER_BYTES } from '../../src/http/limits.ts';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import type { RawClient } from '../support/raw.ts';
import { cooled, eventually, RecordingEnd } from './support.ts';
import {
  echoed,
  echoTarget,
  get,
  RecordingListener,
  startListener,
  type TestListener,
  type TestListenerOptions,
} from './client-support.ts';

/** What the sweep may be late by, in ms; it is never early. */
const LATE_MS = 500;
const HEAD_MS = 20_000;
const IDLE_MS = 620_000;
const STALL_MS = 300_000;
const HALF_CLOSE_MS = 5_000;
const LINGER_MS = 3_000;
const HOUR_MS = 3_600_000;

const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';
const STREAM = 'HTTP/1.1 200 OK\r\n';
const NOTHING = Buffer.alloc(0);

interface Timed {
  readonly clock: TestClock;
  readonly server: TestListener;
  readonly client: RawClient;
  /** Of a request, the first one if not said otherwise, once it was handled. */
  readonly exchange: (index?: number) => IncomingRequest;
  readonly exchanges: readonly IncomingRequest[];
  readonly recorder: RecordingListener;
}

/** A client whose requests are kept, and their bodies read unless `readsBody` is false. */
async function startTimed(
  t: TestContext,
  options: TestListenerOptions & {
    readonly readsBody?: boolean;
    readonly staysOpen?: boolean;
  } = {},
): Promise<Timed> {
  const clock = createTestClock();
  const recorder = new RecordingListener();
  const exchanges: IncomingRequest[] = [];
  const server = await startListener(
    t,
    (exchange) => {
      exchanges.push(exchange);
      exchange.listen(recorder);
      if (options.readsBody !== false) exchange.readBody();
    },
    { clock, ...options },
  );
  const exchange = (index = 0): IncomingRequest => {
    const handled = exchanges[index];
    assert.ok(handled);
    return handled;
  };
  const client = await server.connect(options.staysOpen);
  return { clock, server, client, exchange, exchanges, recorder };
}

/** Sends, and waits until the server has it. */
async function deliver({ server, client }: Timed, text: string): Promise<void> {
  const read = (server.sockets[0]?.bytesRead ?? 0) + text.length;
  client.send(text);
  await eventually(() => server.sockets[0]?.bytesRead === read);
}

/** Nothing ends the connection before this time, in ms, and the server does soon after. */
async function closesAfter({ clock, server }: Timed, ms: number): Promise<void> {
  const socket = server.sockets[0];
  await clock.advance(ms - 1);
  await cooled();
  assert.ok(socket && !socket.destroyed && !socket.writableEnded, `${ms} ms are not over`);
  await clock.advance(1 + LATE_MS);
  await eventually(() => socket.destroyed || socket.writableEnded);
}

async function staysOpenFor({ clock, server }: Timed, ms: number): Promise<void> {
  await clock.advance(ms);
  await cooled();
  const socket = server.sockets[0];
  assert.ok(socket && !socket.destroyed && !socket.writableEnded);
}

describe('the head of a request', () => {
  test('that has not come whole after 20 s is answered with 408', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, 'GET / HT');
    await closesAfter(timed, HEAD_MS);
    const received = await timed.client.untilClosed();
    assert.match(received, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*Connection: close\r\n/);
    assert.deepEqual(timed.server.refused, [
      { status: 408, reason: 'the head did not arrive in time' },
    ]);
  });

  test('gets no more time by coming in pieces, of lines or of parts', async (t) => {
    for (const piece of ['a', 'X-A: b\r\n']) {
      const timed = await startTimed(t);
      await deliver(timed, `GET / HTTP/1.1\r\nX: ${piece}`);
      for (let i = 0; i < 3; i += 1) {
        await staysOpenFor(timed, 5_000);
        await deliver(timed, piece);
      }
      await closesAfter(timed, 5_000);
      assert.match(await timed.client.untilClosed(), /^HTTP\/1\.1 408 /);
    }
  });

  test('has its 20 s from its own first byte on, behind another request too', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${get('/1')}GET / HT`);
    await staysOpenFor(timed, HOUR_MS);
    timed.exchange().respond({ status: 200, headers: [], body: '/1' });
    await timed.client.until((text) => text === echoed('/1'));
    await cooled();
    await closesAfter(timed, HEAD_MS);
    assert.match(await timed.client.untilClosed(), /\r\n\/1HTTP\/1\.1 408 |\/1HTTP\/1\.1 408 /);
  });
});

describe('a connection without a request', () => {
  test('that has never sent a byte is closed after 20 s, without a response', async (t) => {
    const timed = await startTimed(t);
    await closesAfter(timed, HEAD_MS);
    assert.equal(await timed.client.untilClosed(), '');
    assert.deepEqual(timed.server.refused, []);
  });

  test('that has served one is closed after 620 s, without a response', async (t) => {
    const clock = createTestClock();
    const server = await startListener(t, echoTarget, { clock });
    const client = await server.connect();
    for (let i = 1; i <= 3; i += 1) {
      client.send(get('/'));
      await client.until((text) => text === echoed('/').repeat(i));
      await cooled();
      if (i < 3) await clock.advance(IDLE_MS - 1_000);
    }
    await clock.advance(IDLE_MS - 1);
    await cooled();
    assert.equal(server.sockets[0]?.destroyed, false);
    await clock.advance(1 + LATE_MS);
    assert.equal(await client.untilClosed(), echoed('/').repeat(3));
  });
});

describe('the body of a request', () => {
  for (const framing of ['Content-Length: 10', 'Transfer-Encoding: chunked']) {
    test(`that has stopped for 300 s is answered with 408: ${framing}`, async (t) => {
      const timed = await startTimed(t);
      await deliver(timed, `${POST}${framing}\r\n\r\n1\r\n`);
      await timed.clock.advance(STALL_MS - 1);
      await deliver(timed, 'a');
      await timed.clock.advance(STALL_MS - 1);
      await cooled();
      assert.equal(timed.recorder.broken, undefined);
      await timed.clock.advance(1 + LATE_MS);
      assert.deepEqual(timed.recorder.broken, {
        status: 408,
        reason: 'the body stopped arriving',
      });
      timed.exchange().respond({ status: 408, headers: [], body: '' }, true);
      assert.match(await timed.client.untilClosed(), /^HTTP\/1\.1 408 /);
    });
  }

  test('may stop for as long as it is not wanted', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    timed.exchange().pauseBody();
    await staysOpenFor(timed, HOUR_MS);
    assert.equal(timed.recorder.broken, undefined);
  });

  test('may stop while its response is under way', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    timed.exchange().writeHead(STREAM, true, false);
    timed.exchange().flush();
    await staysOpenFor(timed, HOUR_MS);
    assert.equal(timed.recorder.broken, undefined);
  });

  test('may stop for ever if the timeout is 0', async (t) => {
    const timed = await startTimed(t, { limits: { stallTimeoutMs: 0 } });
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    await staysOpenFor(timed, 24 * HOUR_MS);
  });
});

/** Writes until the client's socket is full. */
async function fill(exchange: IncomingRequest): Promise<void> {
  exchange.writeHead(STREAM, true, false);
  const bytes = Buffer.alloc(1_000_000, 'x');
  await eventually(() => !exchange.write(bytes, 0, bytes.length, 'kept'));
}

describe('a client that reads', () => {
  test('no byte of what waits for it for 300 s is broken off', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.client.socket.pause();
    await fill(timed.exchange());
    await staysOpenFor(timed, STALL_MS - 1);
    await timed.clock.advance(STALL_MS + 2 * LATE_MS);
    await eventually(() => timed.recorder.isGone);
  });

  test('a little from time to time is not', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.client.socket.pause();
    await fill(timed.exchange());
    for (let i = 0; i < 5; i += 1) {
      const before = timed.recorder.writableCount;
      timed.client.socket.resume();
      await eventually(() => timed.recorder.writableCount > before);
      timed.client.socket.pause();
      const bytes = Buffer.alloc(1_000_000, 'x');
      await eventually(() => !timed.exchange().write(bytes, 0, bytes.length, 'kept'));
      await staysOpenFor(timed, STALL_MS - 1_000);
    }
  });

  test('a stream that is silent is left alone', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.exchange().writeHead(STREAM, true, false);
    timed.exchange().flush();
    await staysOpenFor(timed, 24 * HOUR_MS);
  });

  test('nothing as there is nothing yet is left alone', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    await staysOpenFor(timed, 24 * HOUR_MS);
  });
});

describe('a client that has ended its side', () => {
  async function halfClosed(t: TestContext, request = get('/')): Promise<Timed> {
    const timed = await startTimed(t);
    await deliver(timed, request);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    return timed;
  }

  test('gets a response of known length, however long it takes', async (t) => {
    const timed = await halfClosed(t);
    timed.exchange().writeHead('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n', false, false);
    timed.exchange().flush();
    await staysOpenFor(timed, HOUR_MS);
    timed.exchange().write(Buffer.from('ok'), 0, 2, 'kept');
    timed.exchange().end();
    assert.match(await timed.client.untilClosed(), /\r\n\r\nok$/);
  });

  test('gets a response whose head takes long, after some 100 that find out whether it is there', async (t) => {
    const timed = await halfClosed(t);
    await staysOpenFor(timed, HOUR_MS);
    timed.exchange().respond({ status: 200, headers: [], body: '/' });
    const received = await timed.client.untilClosed();
    assert.match(received, /^(?:HTTP\/1\.1 102 Processing\r\n\r\n){1,4}HTTP\/1\.1 200 [^]*\/$/);
  });

  test('and has gone altogether is found out within 5 s', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    // Its kernel resets what comes, and nobody but the next write is told.
    timed.client.socket.destroy();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    for (let i = 0; i < 5 && !timed.recorder.isGone; i += 1) {
      await timed.clock.advance(HALF_CLOSE_MS / 5);
      await cooled();
    }
    await eventually(() => timed.recorder.isGone);
  });

  test('is not waited for longer than 5 s if it speaks HTTP/1.0 or asks for another protocol', async (t) => {
    for (const request of [
      'GET / HTTP/1.0\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    ]) {
      const timed = await halfClosed(t, request);
      await timed.clock.advance(HALF_CLOSE_MS);
      await eventually(() => timed.recorder.isGone);
      assert.equal(await timed.client.untilClosed(), '');
    }
  });

  test('gets no stream for longer than 5 s, be it silent', async (t) => {
    const timed = await halfClosed(t);
    timed.exchange().writeHead(STREAM, true, false);
    timed.exchange().flush();
    await timed.clock.advance(HALF_CLOSE_MS);
    await eventually(() => timed.recorder.isGone);
  });

  test('gets no stream for longer than 5 s, be it never silent', async (t) => {
    const timed = await halfClosed(t);
    // It reads, and keeps nothing.
    timed.client.socket.removeAllListeners('data').resume();
    timed.exchange().writeHead(STREAM, true, false);
    const bytes = Buffer.alloc(16_000_000);
    for (let i = 0; i < 10; i += 1) {
      const before = timed.recorder.writableCount;
      timed.exchange().write(bytes, 0, bytes.length, 'kept');
      await timed.clock.advance(HALF_CLOSE_MS / 10);
      await eventually(() => timed.recorder.isGone || timed.recorder.writableCount > before);
    }
    await eventually(() => timed.recorder.isGone);
  });

  test('and reads nothing of its response is broken off as any other', async (t) => {
    const timed = await halfClosed(t);
    timed.client.socket.pause();
    const exchange = timed.exchange();
    exchange.writeHead('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n', false, false);
    const bytes = Buffer.alloc(1_000_000, 'x');
    await eventually(() => !exchange.write(bytes, 0, bytes.length, 'kept'));
    await timed.clock.advance(2 * (STALL_MS + LATE_MS));
    await eventually(() => timed.recorder.isGone);
  });

  test('gets some time for a stream that a later one of its requests begins', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/1') + get('/2'));
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    await staysOpenFor(timed, HOUR_MS);
    timed.exchange().respond({ status: 200, headers: [], body: '/1' });
    await eventually(() => timed.exchanges.length === 2);
    timed.exchange(1).writeHead(STREAM, true, false);
    timed.exchange(1).flush();
    await staysOpenFor(timed, 900);
    await timed.clock.advance(HALF_CLOSE_MS - 900);
    await eventually(() => timed.recorder.isGone);
  });
});

describe('the last response of a connection', () => {
  /** Responds, and closes: the client may still be sending. */
  async function lastResponse(t: TestContext): Promise<Timed> {
    const timed = await startTimed(t, { readsBody: false, staysOpen: true });
    await deliver(timed, `${POST}Content-Length: 100000000\r\n\r\n`);
    timed.exchange().respond({ status: 413, headers: [], body: '' }, true);
    await timed.client.until((text) => text.endsWith('\r\n\r\n'));
    return timed;
  }

  test('is followed by 3 s in which what the client still sends is dropped', async (t) => {
    const timed = await lastResponse(t);
    for (let i = 0; i < 29; i += 1) {
      await deliver(timed, 'x'.repeat(1_000));
      await timed.clock.advance(LINGER_MS / 30);
    }
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    await timed.clock.advance(LINGER_MS / 30 + LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is followed by no more than 8 MB that are dropped', async (t) => {
    const timed = await lastResponse(t);
    timed.client.socket.write(Buffer.alloc(LINGER_BYTES));
    await eventually(() => (timed.server.sockets[0]?.bytesRead ?? 0) > LINGER_BYTES);
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    timed.client.socket.write(NOTHING);
    timed.client.send('xx');
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
    assert.equal(LINGER_BYTES, 8 * 1_024 * 1_024);
  });

  test('is closed as soon as the client has ended its side', async (t) => {
    const timed = await lastResponse(t);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is delivered whole to a client that reads slowly', async (t) => {
    const LENGTH = 20_000_000;
    const timed = await startTimed(t);
    await deliver(timed, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    timed.client.socket.pause();
    const exchange = timed.exchange();
    exchange.writeHead(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n`, false, false);
    const bytes = Buffer.alloc(LENGTH, 'x');
    exchange.write(bytes, 0, LENGTH, 'kept');
    exchange.end();
    await timed.clock.advance(10 * LINGER_MS);
    timed.client.socket.resume();
    const received = await timed.client.untilClosed();
    assert.equal(received.length - (received.indexOf('\r\n\r\n') + 4), LENGTH);
  });

  test('is given up if the client reads nothing of it for 300 s', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    timed.client.socket.pause();
    const exchange = timed.exchange();
    await fill(exchange);
    exchange.end();
    await timed.clock.advance(STALL_MS - 1);
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    await timed.clock.advance(STALL_MS + 2 * LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
    assert.equal(timed.clock.pendingCount(), 0);
  });
});

describe('the rest of a body behind an early response', () => {
  test('is waited for as long as it comes, and given up after 3 s in which it does not', async (t) => {
    const timed = await startTimed(t, { readsBody: false });
    await deliver(timed, `${POST}Content-Length: 1000000\r\n\r\n`);
    timed.exchange().respond({ status: 413, headers: [], body: '' });
    for (let i = 0; i < 5; i += 1) {
      await deliver(timed, 'x'.repeat(1_000));
      await staysOpenFor(timed, LINGER_MS - 1);
    }
    await timed.clock.advance(1 + LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is dropped up to 8 MB', async (t) => {
    const timed = await startTimed(t, { readsBody: false });
    await deliver(timed, `${POST}Transfer-Encoding: chunked\r\n\r\n`);
    timed.exchange().respond({ status: 413, headers: [], body: '' });
    const chunk = `100000\r\n${'x'.repeat(0x100000)}\r\n`;
    for (let i = 0; i < 7; i += 1) await deliver(timed, chunk);
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    timed.client.send(chunk + chunk);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });
});

describe('a tunnel', () => {
  const ASK = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

  async function openTunnel(t: TestContext): Promise<Timed> {
    const timed = await startTimed(t);
    await deliver(timed, ASK);
    timed.exchange().openTunnel('HTTP/1.1 101 OK\r\n\r\n', new RecordingEnd());
    return timed;
  }

  test('may be silent for as long as both sides are open', async (t) => {
    const timed = await openTunnel(t);
    await staysOpenFor(timed, 24 * HOUR_MS);
  });

  test('of which one side has ended is closed after 30 s in which the other is silent', async (t) => {
    const timed = await openTunnel(t);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    await closesAfter(timed, 30_000);
  });
});
