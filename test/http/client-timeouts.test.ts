/** Timeouts of a client connection, with a clock that the test advances. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { LINGER_BYTES } from '../../src/http/limits.ts';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import type { RawClient } from '../support/raw.ts';
import { untilReusable, eventually, RecordingEnd } from './support.ts';
import {
  echoed,
  echoTarget,
  get,
  RecordingListener,
  startListener,
  type TestListener,
  type TestListenerOptions,
} from './client-support.ts';

/** The sweep may be this much late, in ms. It is never early. */
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
  /** A handled request, by default the first one. */
  readonly request: (index?: number) => IncomingRequest;
  readonly requests: readonly IncomingRequest[];
  readonly recorder: RecordingListener;
}

/** A client whose requests are recorded, and their bodies read unless `readsBody` is false. */
async function startTimed(
  t: TestContext,
  options: TestListenerOptions & {
    readonly readsBody?: boolean;
    readonly staysOpen?: boolean;
  } = {},
): Promise<Timed> {
  const clock = createTestClock();
  const recorder = new RecordingListener();
  const requests: IncomingRequest[] = [];
  const server = await startListener(
    t,
    (request) => {
      requests.push(request);
      request.listen(recorder);
      if (options.readsBody !== false) request.readBody();
    },
    { clock, ...options },
  );
  const request = (index = 0): IncomingRequest => {
    const handled = requests[index];
    assert.ok(handled);
    return handled;
  };
  const client = await server.connect(options.staysOpen);
  return { clock, server, client, request, requests, recorder };
}

/** Sends the text, and waits until the server has received it. */
async function deliver({ server, client }: Timed, text: string): Promise<void> {
  const read = (server.sockets[0]?.bytesRead ?? 0) + text.length;
  client.send(text);
  await eventually(() => server.sockets[0]?.bytesRead === read);
}

/** Asserts that the server closes the connection after this time, in ms, and not earlier. */
async function closesAfter({ clock, server }: Timed, ms: number): Promise<void> {
  const socket = server.sockets[0];
  await clock.advance(ms - 1);
  await untilReusable();
  assert.ok(socket && !socket.destroyed && !socket.writableEnded, `closed before ${ms} ms`);
  await clock.advance(1 + LATE_MS);
  await eventually(() => socket.destroyed || socket.writableEnded);
}

async function staysOpenFor({ clock, server }: Timed, ms: number): Promise<void> {
  await clock.advance(ms);
  await untilReusable();
  const socket = server.sockets[0];
  assert.ok(socket && !socket.destroyed && !socket.writableEnded);
}

describe('the head of a request', () => {
  test('that is incomplete after 20 s returns 408', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, 'GET / HT');
    await closesAfter(timed, HEAD_MS);
    const received = await timed.client.untilClosed();
    assert.match(received, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*Connection: close\r\n/);
    assert.deepEqual(timed.server.rejected, [
      { status: 408, reason: 'the head did not arrive in time' },
    ]);
  });

  test('gets no more time by arriving in pieces', async (t) => {
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

  test('has 20 s from its first byte, after another request too', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${get('/1')}GET / HT`);
    await staysOpenFor(timed, HOUR_MS);
    timed.request().respond({ status: 200, headers: [], body: '/1' });
    await timed.client.until((text) => text === echoed('/1'));
    await untilReusable();
    await closesAfter(timed, HEAD_MS);
    assert.match(await timed.client.untilClosed(), /\r\n\/1HTTP\/1\.1 408 |\/1HTTP\/1\.1 408 /);
  });
});

describe('a connection without a request', () => {
  test('that never received a byte is closed after 20 s, without a response', async (t) => {
    const timed = await startTimed(t);
    await closesAfter(timed, HEAD_MS);
    assert.equal(await timed.client.untilClosed(), '');
    assert.deepEqual(timed.server.rejected, []);
  });

  test('that served a request is closed after 620 s, without a response', async (t) => {
    const clock = createTestClock();
    const server = await startListener(t, echoTarget, { clock });
    const client = await server.connect();
    for (let i = 1; i <= 3; i += 1) {
      client.send(get('/'));
      await client.until((text) => text === echoed('/').repeat(i));
      await untilReusable();
      if (i < 3) await clock.advance(IDLE_MS - 1_000);
    }
    await clock.advance(IDLE_MS - 1);
    await untilReusable();
    assert.equal(server.sockets[0]?.destroyed, false);
    await clock.advance(1 + LATE_MS);
    assert.equal(await client.untilClosed(), echoed('/').repeat(3));
  });
});

describe('the body of a request', () => {
  for (const framing of ['Content-Length: 10', 'Transfer-Encoding: chunked']) {
    test(`that stalls for 300 s returns 408: ${framing}`, async (t) => {
      const timed = await startTimed(t);
      await deliver(timed, `${POST}${framing}\r\n\r\n1\r\n`);
      await timed.clock.advance(STALL_MS - 1);
      await deliver(timed, 'a');
      await timed.clock.advance(STALL_MS - 1);
      await untilReusable();
      assert.equal(timed.recorder.malformedBody, undefined);
      await timed.clock.advance(1 + LATE_MS);
      assert.deepEqual(timed.recorder.malformedBody, {
        status: 408,
        reason: 'the body stopped arriving',
      });
      timed.request().respond({ status: 408, headers: [], body: '' }, true);
      assert.match(await timed.client.untilClosed(), /^HTTP\/1\.1 408 /);
    });
  }

  test('may stall while its reader is paused', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    timed.request().pauseBody();
    await staysOpenFor(timed, HOUR_MS);
    assert.equal(timed.recorder.malformedBody, undefined);
  });

  test('may stall while its response is being sent', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    timed.request().writeHead(STREAM, true, false);
    timed.request().flush();
    await staysOpenFor(timed, HOUR_MS);
    assert.equal(timed.recorder.malformedBody, undefined);
  });

  test('may stall forever if the timeout is 0', async (t) => {
    const timed = await startTimed(t, { limits: { stallTimeoutMs: 0 } });
    await deliver(timed, `${POST}Content-Length: 10\r\n\r\nabc`);
    await staysOpenFor(timed, 24 * HOUR_MS);
  });
});

/** Writes until the client's socket is full. */
async function fill(request: IncomingRequest): Promise<void> {
  request.writeHead(STREAM, true, false);
  const bytes = Buffer.alloc(1_000_000, 'x');
  await eventually(() => !request.write(bytes, 0, bytes.length, 'kept'));
}

describe('a client that reads', () => {
  test('no byte for 300 s is disconnected', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.client.socket.pause();
    await fill(timed.request());
    await staysOpenFor(timed, STALL_MS - 1);
    await timed.clock.advance(STALL_MS + 2 * LATE_MS);
    await eventually(() => timed.recorder.hasDisconnected);
  });

  test('a little from time to time stays connected', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.client.socket.pause();
    await fill(timed.request());
    for (let i = 0; i < 5; i += 1) {
      const before = timed.recorder.writableCount;
      timed.client.socket.resume();
      await eventually(() => timed.recorder.writableCount > before);
      timed.client.socket.pause();
      const bytes = Buffer.alloc(1_000_000, 'x');
      await eventually(() => !timed.request().write(bytes, 0, bytes.length, 'kept'));
      await staysOpenFor(timed, STALL_MS - 1_000);
    }
  });

  test('an idle stream stays connected', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    timed.request().writeHead(STREAM, true, false);
    timed.request().flush();
    await staysOpenFor(timed, 24 * HOUR_MS);
  });

  test('nothing because there is no response yet stays connected', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    await staysOpenFor(timed, 24 * HOUR_MS);
  });
});

describe('a client that has half-closed', () => {
  async function halfClosed(t: TestContext, request = get('/')): Promise<Timed> {
    const timed = await startTimed(t);
    await deliver(timed, request);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    return timed;
  }

  test('gets a response with Content-Length, however long it takes', async (t) => {
    const timed = await halfClosed(t);
    timed.request().writeHead('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n', false, false);
    timed.request().flush();
    await staysOpenFor(timed, HOUR_MS);
    timed.request().write(Buffer.from('ok'), 0, 2, 'kept');
    timed.request().end();
    assert.match(await timed.client.untilClosed(), /\r\n\r\nok$/);
  });

  test('gets a response with a late head, after some interim responses that probe the client', async (t) => {
    const timed = await halfClosed(t);
    await staysOpenFor(timed, HOUR_MS);
    timed.request().respond({ status: 200, headers: [], body: '/' });
    const received = await timed.client.untilClosed();
    assert.match(received, /^(?:HTTP\/1\.1 102 Processing\r\n\r\n){1,4}HTTP\/1\.1 200 [^]*\/$/);
  });

  test('and then closed is detected within 5 s', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/'));
    // The kernel of the client responds with RST, which only the next write reveals.
    timed.client.socket.destroy();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    for (let i = 0; i < 5 && !timed.recorder.hasDisconnected; i += 1) {
      await timed.clock.advance(HALF_CLOSE_MS / 5);
      await untilReusable();
    }
    await eventually(() => timed.recorder.hasDisconnected);
  });

  test('is disconnected after 5 s if it uses HTTP/1.0 or requests an upgrade', async (t) => {
    for (const request of [
      'GET / HTTP/1.0\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    ]) {
      const timed = await halfClosed(t, request);
      await timed.clock.advance(HALF_CLOSE_MS);
      await eventually(() => timed.recorder.hasDisconnected);
      assert.equal(await timed.client.untilClosed(), '');
    }
  });

  test('gets an idle stream for at most 5 s', async (t) => {
    const timed = await halfClosed(t);
    timed.request().writeHead(STREAM, true, false);
    timed.request().flush();
    await timed.clock.advance(HALF_CLOSE_MS);
    await eventually(() => timed.recorder.hasDisconnected);
  });

  test('gets a busy stream for at most 5 s', async (t) => {
    const timed = await halfClosed(t);
    // It reads and discards everything.
    timed.client.socket.removeAllListeners('data').resume();
    timed.request().writeHead(STREAM, true, false);
    const bytes = Buffer.alloc(16_000_000);
    for (let i = 0; i < 10; i += 1) {
      const before = timed.recorder.writableCount;
      timed.request().write(bytes, 0, bytes.length, 'kept');
      await timed.clock.advance(HALF_CLOSE_MS / 10);
      await eventually(
        () => timed.recorder.hasDisconnected || timed.recorder.writableCount > before,
      );
    }
    await eventually(() => timed.recorder.hasDisconnected);
  });

  test('and reads nothing is disconnected like any other client', async (t) => {
    const timed = await halfClosed(t);
    timed.client.socket.pause();
    const request = timed.request();
    request.writeHead('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n', false, false);
    const bytes = Buffer.alloc(1_000_000, 'x');
    await eventually(() => !request.write(bytes, 0, bytes.length, 'kept'));
    await timed.clock.advance(2 * (STALL_MS + LATE_MS));
    await eventually(() => timed.recorder.hasDisconnected);
  });

  test('gets some time for a stream of a later request', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, get('/1') + get('/2'));
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    await staysOpenFor(timed, HOUR_MS);
    timed.request().respond({ status: 200, headers: [], body: '/1' });
    await eventually(() => timed.requests.length === 2);
    timed.request(1).writeHead(STREAM, true, false);
    timed.request(1).flush();
    await staysOpenFor(timed, 900);
    await timed.clock.advance(HALF_CLOSE_MS - 900);
    await eventually(() => timed.recorder.hasDisconnected);
  });
});

describe('the last response of a connection', () => {
  /** Responds and closes while the client may still be sending. */
  async function lastResponse(t: TestContext): Promise<Timed> {
    const timed = await startTimed(t, { readsBody: false, staysOpen: true });
    await deliver(timed, `${POST}Content-Length: 100000000\r\n\r\n`);
    timed.request().respond({ status: 413, headers: [], body: '' }, true);
    await timed.client.until((text) => text.endsWith('\r\n\r\n'));
    return timed;
  }

  test('is followed by 3 s in which data of the client is discarded', async (t) => {
    const timed = await lastResponse(t);
    for (let i = 0; i < 29; i += 1) {
      await deliver(timed, 'x'.repeat(1_000));
      await timed.clock.advance(LINGER_MS / 30);
    }
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    await timed.clock.advance(LINGER_MS / 30 + LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is followed by at most 8 MB that are discarded', async (t) => {
    const timed = await lastResponse(t);
    timed.client.socket.write(Buffer.alloc(LINGER_BYTES));
    await eventually(() => (timed.server.sockets[0]?.bytesRead ?? 0) > LINGER_BYTES);
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    timed.client.socket.write(NOTHING);
    timed.client.send('xx');
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
    assert.equal(LINGER_BYTES, 8 * 1_024 * 1_024);
  });

  test('is followed by a close as soon as the client half-closes', async (t) => {
    const timed = await lastResponse(t);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is delivered complete to a client that reads slowly', async (t) => {
    const LENGTH = 20_000_000;
    const timed = await startTimed(t);
    await deliver(timed, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    timed.client.socket.pause();
    const request = timed.request();
    request.writeHead(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n`, false, false);
    const bytes = Buffer.alloc(LENGTH, 'x');
    request.write(bytes, 0, LENGTH, 'kept');
    request.end();
    await timed.clock.advance(10 * LINGER_MS);
    timed.client.socket.resume();
    const received = await timed.client.untilClosed();
    assert.equal(received.length - (received.indexOf('\r\n\r\n') + 4), LENGTH);
  });

  test('is aborted if the client reads nothing for 300 s', async (t) => {
    const timed = await startTimed(t);
    await deliver(timed, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    timed.client.socket.pause();
    const request = timed.request();
    await fill(request);
    request.end();
    await timed.clock.advance(STALL_MS - 1);
    assert.equal(timed.server.sockets[0]?.destroyed, false);
    await timed.clock.advance(STALL_MS + 2 * LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
    assert.equal(timed.clock.pendingCount(), 0);
  });
});

describe('the rest of a body after an early response', () => {
  test('is awaited while it arrives, and the connection closes after 3 s without data', async (t) => {
    const timed = await startTimed(t, { readsBody: false });
    await deliver(timed, `${POST}Content-Length: 1000000\r\n\r\n`);
    timed.request().respond({ status: 413, headers: [], body: '' });
    for (let i = 0; i < 5; i += 1) {
      await deliver(timed, 'x'.repeat(1_000));
      await staysOpenFor(timed, LINGER_MS - 1);
    }
    await timed.clock.advance(1 + LATE_MS);
    await eventually(() => timed.server.sockets[0]?.destroyed === true);
  });

  test('is discarded up to 8 MB', async (t) => {
    const timed = await startTimed(t, { readsBody: false });
    await deliver(timed, `${POST}Transfer-Encoding: chunked\r\n\r\n`);
    timed.request().respond({ status: 413, headers: [], body: '' });
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
    timed.request().openTunnel('HTTP/1.1 101 OK\r\n\r\n', new RecordingEnd());
    return timed;
  }

  test('may be idle while both sides are open', async (t) => {
    const timed = await openTunnel(t);
    await staysOpenFor(timed, 24 * HOUR_MS);
  });

  test('with one side ended is closed after 30 s without data of the other', async (t) => {
    const timed = await openTunnel(t);
    timed.client.socket.end();
    await eventually(() => timed.server.sockets[0]?.readableEnded === true);
    await closesAfter(timed, 30_000);
  });
});
