/** Regressions of the engine that fuzzing or its preparation found. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock, type Clock } from '../../../src/clock.ts';
import type { FilteredBytes } from '../../../src/http/pipe-owner.ts';
import type {
  IncomingRequestListener,
  IncomingRequest,
} from '../../../src/http/incoming-request.ts';
import { UpstreamRequest, UpstreamError } from '../../../src/http/upstream-request.ts';
import { until } from '../../e2e/support/until.ts';
import { createTestClock, startTurnClock } from '../../support/clock.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { openClient, openRawClient, type RawClient } from '../../support/raw.ts';
import { startForwarder, type Forwarder } from './forwarder.ts';
import { readRequests } from './request-reader.ts';
import { readResponse } from './response-reader.ts';

const UPGRADE = 'GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n';
const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n';
const MB = 1_048_576;

test('a 101 with an empty Upgrade is rejected', () => {
  const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade:\r\n\r\n';
  assert.equal(readResponse([Buffer.from(head)], 'GET').ending, 'refused');
});

test('chunked followed by a tab is rejected, because llhttp reads it as another coding', () => {
  const field = 'Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n';
  const request = Buffer.from(`POST / HTTP/1.1\r\nHost: h\r\n${field}`);
  assert.equal(readRequests([request]).ending, 'refused');
  assert.equal(readResponse([Buffer.from(`HTTP/1.1 200 OK\r\n${field}`)], 'GET').ending, 'refused');
});

test('a Connection option with a no-break space is ignored', () => {
  const request = Buffer.from(
    'GET / HTTP/1.1\r\nHost: h\r\nConnection: \xa0close\r\n\r\n',
    'latin1',
  );
  assert.equal(readRequests([request]).ending, 'open');
});

for (const end of ['end', 'resetAndDestroy'] as const) {
  test(`a tunnel that the app ends first (${end}) ends as finished`, async (t) => {
    let app: Socket | undefined;
    const appPort = await serveRawApp(t, (socket) => {
      app = socket;
      socket.write(SWITCHING);
    });
    const forwarder = await startForwarder(t, { appPort });
    const client = await openRawClient(forwarder.port);
    client.send(UPGRADE);
    await client.until((text) => text.endsWith('\r\n\r\n'));
    app?.[end]();
    await client.untilClosed();
    await until(() => (forwarder.listener.busyCount() === 0 ? [] : ['the end of the tunnel']));
    await until(() => (forwarder.pool.connectionCount === 0 ? [] : ['the end of the app’s side']));
    assert.deepEqual(forwarder.endings, ['finished']);
  });
}

test('the last response of a connection reaches a slow client complete', async (t) => {
  const clock = createTestClock();
  const { client, endings, forwarder, written } = await startFullSocket(t, clock);
  client.send('GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n');
  await endings.next;
  await clock.advance(10_000);
  client.socket.resume();
  const received = await client.untilClosed();
  assert.equal(received.length - received.indexOf('\r\n\r\n') - 4, written());
  await forwarder.close();
});

test('bytes that a slow client has read do not count as held while its connection is idle', async (t) => {
  const clock = createTestClock();
  const { client, endings, forwarder, written } = await startFullSocket(t, clock);
  client.send('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  await endings.next;
  assert.ok(forwarder.budget.heldBytes > 0);
  client.socket.resume();
  await client.until((text) => text.length > written());
  await clock.advance(1_000);
  assert.equal(forwarder.budget.heldBytes, 0);
});

test('a half-closed client that reads nothing is disconnected after the stall timeout', async (t) => {
  const clock = createTestClock();
  const appPort = await serveRawApp(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${32 * MB}\r\n\r\n`);
    socket.write(Buffer.alloc(32 * MB));
  });
  const forwarder = await startForwarder(t, { appPort, clock, limits: { stallTimeoutMs: 60_000 } });
  const client = await openClient(t, forwarder.port);
  client.socket.pause();
  client.socket.end('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  await until(() => (forwarder.budget.heldBytes > 0 ? [] : ['a client that does not read']));
  await clock.advance(300_000);
  await until(() => (forwarder.endings.length > 0 ? [] : ['the end of the request']));
  assert.deepEqual(forwarder.endings, ['client-gone']);
});

test('a body that stalls after a complete response is aborted after the stall timeout', async (t) => {
  const clock = createTestClock();
  const appPort = await serveRawApp(t, (socket) => {
    socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno');
  });
  const forwarder = await startForwarder(t, { appPort, clock, limits: { stallTimeoutMs: 60_000 } });
  const client = await openRawClient(forwarder.port);
  client.send('POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab');
  await client.until((text) => text.endsWith('no'));
  await clock.advance(130_000);
  await client.untilClosed();
});

test('nothing is read after a malformed body', async (t) => {
  const requests: string[] = [];
  const appPort = await serveRawApp(t, (_socket, request) => requests.push(request));
  const forwarder = await startForwarder(t, { appPort });
  const client = await openRawClient(forwarder.port);
  client.send('POST /broken HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n');
  await until(() => (requests.length > 0 ? [] : ['the request']));
  client.send('x');
  await client.until((text) => text.startsWith('HTTP/1.1 400'));
  client.send('GET /behind HTTP/1.1\r\nHost: h\r\n\r\n');
  assert.match(await client.untilClosed(), /\r\nConnection: close\r\n/);
  assert.ok(!requests.some((request) => request.includes('/behind')));
});

test('a complete response is delivered even if the app resets the connection before it has the body', async (t) => {
  const appPort = await serveRawApp(t, (socket) => {
    socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno', () =>
      socket.resetAndDestroy(),
    );
  });
  const forwarder = await startForwarder(t, { appPort, clock: startTurnClock(t) });
  const client = await openRawClient(forwarder.port);
  client.send(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${MB}\r\n\r\nab`);
  await client.until((text) => text.endsWith('no'));
  await client.untilClosed();
  assert.deepEqual(forwarder.endings, ['finished']);
});

test('a listener that closes lets a slow client read its response', async (t) => {
  const { client, endings, forwarder, written } = await startFullSocket(t, systemClock);
  client.send('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  await endings.next;
  const closing = forwarder.listener.close(60_000);
  client.socket.resume();
  const received = await client.untilClosed();
  assert.equal(received.length - received.indexOf('\r\n\r\n') - 4, written());
  await closing;
});

test('a request that arrives on a closing connection is not handled', async (t) => {
  const { client, endings, forwarder, requestCount } = await startFullSocket(t, systemClock);
  client.send('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  await endings.next;
  const closing = forwarder.listener.close(1_000);
  client.send('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  client.socket.resume();
  await client.untilClosed();
  await closing;
  assert.equal(requestCount(), 1);
});

test('a request that waits on a destroyed connection is not handled', async (t) => {
  const targets: string[] = [];
  const handle = (request: IncomingRequest): void => {
    targets.push(request.head.target);
    request.respond({ status: 200, headers: [], body: '' });
    forwarder.listener.destroyAll();
  };
  const forwarder = await startForwarder(t, { appPort: 1, handler: () => ({ handle }) });
  const client = await openRawClient(forwarder.port);
  client.send('GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n');
  await client.untilClosed();
  assert.deepEqual(targets, ['/1']);
});

test('a request whose body is incomplete when its client half-closes is not handled', async (t) => {
  const responding = Promise.withResolvers<undefined>();
  const targets: string[] = [];
  const handle = (request: IncomingRequest): void => {
    targets.push(request.head.target);
    void responding.promise.then(() => request.respond({ status: 200, headers: [], body: '' }));
  };
  const forwarder = await startForwarder(t, { appPort: 1, handler: () => ({ handle }) });
  forwarder.listener.server.once('connection', (socket: Socket) => {
    socket.once('end', () => responding.resolve(undefined));
  });
  const client = await openRawClient(forwarder.port);
  const part = 'POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab';
  client.socket.end(`GET /1 HTTP/1.1\r\nHost: h\r\n\r\n${part}`);
  await client.untilClosed();
  assert.deepEqual(targets, ['/1']);
});

test('an aborted response does not truncate the previous response', async (t) => {
  const { client, requestCount, written } = await startFullSocket(t, systemClock, (request) => {
    request.writeHead('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n', false, false);
    request.writeText('cut');
    request.cut();
  });
  client.send('GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n');
  await until(() => (requestCount() === 2 ? [] : ['the second request']));
  client.socket.resume();
  const received = await client.untilClosed();
  const first = received.indexOf('\r\n\r\n') + 4 + written();
  assert.match(received.slice(first), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\ncut$/);
});

const HALF_BODY = 'Content-Length: 9\r\n\r\nhalf';
const BROKEN_BODY = 'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx';
for (const { what, body, end } of [
  { what: 'ends its side within the next request', body: HALF_BODY, end: true },
  { what: 'breaks the framing of the next request', body: BROKEN_BODY, end: false },
]) {
  test(`a client that ${what} still gets the previous response`, async (t) => {
    const gone = Promise.withResolvers<undefined>();
    const full = await startFullSocket(t, systemClock, (request) => {
      request.listen({ ...silentListener, onClientDisconnected: () => gone.resolve(undefined) });
      request.writeHead('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n', false, false);
      request.readBody();
    });
    const { client, requestCount, written } = full;
    const head = 'POST /2 HTTP/1.1\r\nHost: h\r\n';
    client.send(`GET /1 HTTP/1.1\r\nHost: h\r\n\r\n${head}${body.slice(0, -1)}`);
    await until(() => (requestCount() === 2 ? [] : ['the second request']));
    if (end) client.socket.end();
    else client.send(body.slice(-1));
    await gone.promise;
    client.socket.resume();
    const received = await client.untilClosed();
    assert.ok(received.length >= received.indexOf('\r\n\r\n') + 4 + written());
  });
}

const silentListener: IncomingRequestListener = {
  onRequestBody: () => undefined,
  onRequestEnd: () => undefined,
  onMalformedBody: () => undefined,
  onClientWritable: () => undefined,
  onClientDisconnected: () => undefined,
};

test('a request that is retried after a failed write has its complete body', async (t) => {
  const { calls, client, endings } = await startRecordingPipe(t);
  client.send('PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n');
  await until(() => (calls.length === 1 ? [] : ['the first attempt']));
  calls[0]?.sink.onBodyUnwanted();
  calls[0]?.sink.onError(new UpstreamError('connection-lost', 'test', { wasReused: true }));
  calls[1]?.sink.onUpstreamWritable();
  client.send('abc');
  client.send('def');
  await until(() => (calls[1]?.isBodySent === true ? [] : ['the end of the body']));
  assert.equal(calls[1]?.written, 'abcdef');
  assert.deepEqual(endings, []);
});

test('a request with a partly discarded body is not retried', async (t) => {
  const { calls, client, endings } = await startRecordingPipe(t);
  client.send('PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n');
  await until(() => (calls.length === 1 ? [] : ['the first attempt']));
  calls[0]?.sink.onBodyUnwanted();
  client.send('abcdef');
  await until(() => (calls[0]?.isBodySent === true ? [] : ['the end of the body']));
  calls[0]?.sink.onError(new UpstreamError('connection-lost', 'test', { wasReused: true }));
  assert.equal(calls.length, 1);
  assert.deepEqual(endings, ['failed']);
});

/** Records what a pipe sends, without an app. */
class RecordedCall extends UpstreamRequest {
  written = '';

  override write(bytes: Buffer): boolean {
    this.written += bytes.toString('latin1');
    return true;
  }
}

interface RecordingPipe {
  readonly client: RawClient;
  /** One call for each attempt. */
  readonly calls: readonly RecordedCall[];
  readonly endings: readonly string[];
}

async function startRecordingPipe(t: TestContext): Promise<RecordingPipe> {
  const calls: RecordedCall[] = [];
  const forwarder = await startForwarder(t, {
    appPort: 1,
    send: (request, sink) => {
      const call = new RecordedCall(request, sink);
      calls.push(call);
      return call;
    },
  });
  const client = await openClient(t, forwarder.port);
  return { client, calls, endings: forwarder.endings };
}

for (const version of ['1.1', '1.0']) {
  test(`a chunked body that is held with its head is delivered decoded (HTTP/${version})`, async (t) => {
    const chunks = '3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n';
    const appPort = await serveRawApp(t, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`);
    });
    const passing = {
      push: passBytes,
      end: () => ({ out: undefined, until: undefined, isDone: true }),
    };
    const inspector = version === '1.1' ? { inspector: passing } : {};
    const forwarder = await startForwarder(t, {
      appPort,
      hooks: () => ({ onResponse: ({ rawHeaders }) => nextTurn({ rawHeaders, ...inspector }) }),
    });
    const client = await openRawClient(forwarder.port);
    client.send(`GET / HTTP/${version}\r\nHost: h\r\nConnection: close\r\n\r\n`);
    const received = await client.untilClosed();
    const read = readResponse([Buffer.from(received, 'latin1')], 'GET');
    assert.equal(read.body, 'abcdefg');
  });
}

function passBytes(bytes: Uint8Array): FilteredBytes {
  return { out: bytes, until: undefined, isDone: false };
}

interface FullSocket {
  readonly forwarder: Forwarder;
  readonly client: RawClient;
  /** Resolves when the response has been written. */
  readonly endings: { readonly next: Promise<void> };
  /** Body bytes written. */
  readonly written: () => number;
  readonly requestCount: () => number;
}

/** A client that does not read, and a response whose end does not fit into the socket buffers. */
async function startFullSocket(
  t: TestContext,
  clock: Clock,
  onLater?: (request: IncomingRequest) => void,
): Promise<FullSocket> {
  const given = Promise.withResolvers<undefined>();
  let written = 0;
  let requests = 0;
  let socket: Socket | undefined;
  const handle = (request: IncomingRequest): void => {
    const part = Buffer.alloc(4_096, 'x');
    requests += 1;
    if (requests > 1 && onLater) {
      onLater(request);
      return;
    }
    request.writeHead('HTTP/1.1 200 OK\r\nX-Until: full\r\n', true, false);
    while (socket?.writableLength === 0) {
      request.write(part, 0, part.length, 'kept');
      written += part.length;
    }
    request.end();
    given.resolve(undefined);
  };
  const forwarder = await startForwarder(t, { appPort: 1, clock, handler: () => ({ handle }) });
  forwarder.listener.server.on('connection', (accepted: Socket) => (socket = accepted));
  const client = await openClient(t, forwarder.port);
  client.socket.pause();
  return {
    ...{ forwarder, client, endings: { next: given.promise } },
    ...{ written: () => written, requestCount: () => requests },
  };
}
