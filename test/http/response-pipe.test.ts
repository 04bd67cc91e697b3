/** The pipe from a client to an app and back, between raw sockets. */
import { type MalformedRequest, formatRequest } from '../../src/http/request-head.ts';
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  BodyFilter,
  FilteredBytes,
  OutgoingResponse,
  PipeOwner,
} from '../../src/http/pipe-owner.ts';
import { ResponsePipe } from '../../src/http/response-pipe.ts';
import type { ParsedResponseHead } from '../../src/http/response-head.ts';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import type { UpstreamError } from '../../src/http/upstream-request.ts';
import { createTestClock } from '../support/clock.ts';
import type { RawClient } from '../support/raw.ts';
import {
  untilReusable,
  eventually,
  onHeads,
  openUpstream,
  responding,
  startRawServer,
  transcript,
  type RawServer,
  type TestUpstream,
  type TestUpstreamOptions,
} from './support.ts';
import { createIncomingRequest, get, startListener, type TestListener } from './client-support.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';

/** Passes everything on unchanged, and records the events. */
class Owner implements PipeOwner {
  readonly events: string[] = [];
  error: UpstreamError | undefined;
  outgoingFor: (
    head: ParsedResponseHead,
  ) => OutgoingResponse | Promise<OutgoingResponse> | undefined = (head) => ({
    rawHeaders: head.rawHeaders,
  });
  readonly #incoming: IncomingRequest;

  constructor(incoming: IncomingRequest) {
    this.#incoming = incoming;
  }

  onInterim(head: ParsedResponseHead): readonly string[] {
    return head.rawHeaders;
  }

  onResponse(head: ParsedResponseHead): OutgoingResponse | Promise<OutgoingResponse> | undefined {
    return this.outgoingFor(head);
  }

  onResponseStarted(statusCode: number, isStream: boolean): void {
    this.events.push(`started ${statusCode}${isStream ? ' stream' : ''}`);
  }

  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse> | undefined {
    return this.outgoingFor(head);
  }

  onTunnel(statusCode: number): void {
    this.events.push(`tunnel ${statusCode}`);
  }

  onFailed(error: UpstreamError): void {
    this.error = error;
    this.events.push(`failed ${error.code}`);
    this.#incoming.respond({ status: 502, headers: [], body: '' });
  }

  onResponseAborted(error: UpstreamError): void {
    this.error = error;
    this.events.push(`aborted ${error.code}`);
  }

  onMalformedBody({ status }: MalformedRequest): void {
    this.events.push(`malformed ${status}`);
    this.#incoming.respond({ status, headers: [], body: '' }, true);
  }

  onClientDisconnected(): void {
    this.events.push('disconnected');
  }

  onFinished(): void {
    this.events.push('finished');
  }

  onFault(error?: unknown): void {
    this.events.push(error instanceof Error ? `fault ${error.message}` : 'fault');
  }
}

interface TestProxy {
  readonly app: RawServer;
  readonly upstream: TestUpstream;
  readonly server: TestListener;
  readonly client: RawClient;
  /** The owner of a request, by default of the first one. */
  readonly owner: (index?: number) => Owner;
  readonly pipe: (index?: number) => ResponsePipe;
}

interface TestProxyOptions extends TestUpstreamOptions {
  /** Prepares an owner before its request is sent. */
  readonly prepare?: (owner: Owner) => void;
}

async function startProxy(
  t: TestContext,
  onConnection: (socket: Socket, index: number) => void,
  { prepare, ...options }: TestProxyOptions = {},
): Promise<TestProxy> {
  const app = await startRawServer(t, onConnection);
  const upstream = openUpstream(t, app.port, options);
  const owners: Owner[] = [];
  const pipes: ResponsePipe[] = [];
  const server = await startListener(t, (incoming) => {
    const owner = new Owner(incoming);
    prepare?.(owner);
    const pipe = createPipe(incoming, upstream, owner);
    owners.push(owner);
    pipes.push(pipe);
    pipe.start();
  });
  const client = await server.connect();
  const at =
    <Value>(values: readonly Value[]) =>
    (index = 0): Value => {
      const value = values[index];
      assert.ok(value);
      return value;
    };
  return { app, upstream, server, client, owner: at(owners), pipe: at(pipes) };
}

function createPipe(incoming: IncomingRequest, { pool }: TestUpstream, owner: Owner): ResponsePipe {
  const { head } = incoming;
  const text = formatRequest(head, {
    target: head.target,
    rawHeaders: head.rawHeaders,
    added: '',
    asksForUpgrade: head.upgrade !== undefined,
  });
  const request = {
    method: head.method,
    head: text,
    body: incoming.takeEarly(),
    isComplete: incoming.isBodyComplete,
    upgrade: head.upgrade,
  };
  return new ResponsePipe(incoming, pool, request, owner);
}

/** Whether the other side has ended the connection. */
function isOver(socket: Socket | undefined): boolean {
  return socket !== undefined && (socket.readableEnded || socket.destroyed);
}

/** An app that records everything received, by connection. */
function recordingApp(received: string[], respond: (socket: Socket, text: string) => void) {
  return (socket: Socket, index: number): void => {
    received[index] = '';
    socket.on('data', (bytes: Buffer) => {
      const text = (received[index] ?? '') + bytes.toString('latin1');
      received[index] = text;
      respond(socket, text);
    });
  };
}

/** The decoded body of a message with a length or in chunks. */
function bodyOf(received: string): string {
  const body = received.slice(received.indexOf('\r\n\r\n') + 4);
  if (!/^Transfer-Encoding: chunked\r$/m.test(received)) return body;
  return body.replace(/([0-9a-f]+)\r\n([^]*?)\r\n/g, '$2').replace(/\r\n$/, '');
}

/** Of chunks of any size. */
function dataOf(received: string): string {
  let data = '';
  let at = received.indexOf('\r\n\r\n') + 4;
  for (;;) {
    const lineEnd = received.indexOf('\r\n', at);
    const size = parseInt(received.slice(at, lineEnd), 16);
    if (size === 0) return data;
    data += received.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 2 + size + 2;
  }
}

describe('a response', () => {
  const rows: readonly (readonly [
    name: string,
    response: string,
    request: string,
    received: string,
    events: string,
  ])[] = [
    ['with Content-Length passes unchanged', OK, get('/'), OK, 'started 200'],
    [
      'in chunks passes with its framing, without forbidden trailers',
      `${CHUNKED}3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n`,
      get('/'),
      `${CHUNKED}3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n`,
      'started 200 stream',
    ],
    [
      'in chunks is decoded and ends with the connection for HTTP/1.0',
      `${CHUNKED}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`,
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
      'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde',
      'started 200 stream',
    ],
    [
      'with Content-Length keeps an HTTP/1.0 connection with keep-alive open',
      OK,
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok',
      'started 200',
    ],
    [
      'to HEAD keeps its Transfer-Encoding and has no body',
      CHUNKED,
      'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n',
      CHUNKED,
      'started 200',
    ],
    [
      'to HEAD keeps its length',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
      'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
      'started 200',
    ],
    [
      'of 204 has no length (RFC 9110 §8.6)',
      'HTTP/1.1 204 No Content\r\nX: y\r\nContent-Length: 0\r\n\r\n',
      get('/'),
      'HTTP/1.1 204 No Content\r\nX: y\r\n\r\n',
      'started 204',
    ],
    [
      'loses its hop-by-hop fields and no others',
      'HTTP/1.1 200 Fine\r\nSERVER: x\r\nKeep-Alive: timeout=5\r\nx-a: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 2\r\nX-A: 3\r\nContent-Length: 0\r\n\r\n',
      get('/'),
      'HTTP/1.1 200 Fine\r\nSERVER: x\r\nx-a: 1\r\nX-A: 3\r\nContent-Length: 0\r\n\r\n',
      'started 200',
    ],
  ];
  for (const [name, response, request, received, events] of rows) {
    test(name, async (t) => {
      const { client, owner } = await startProxy(t, responding(response));
      client.send(request);
      assert.equal(await client.until((text) => text.length >= received.length), received);
      assert.deepEqual(owner().events, [events, 'finished']);
    });
  }

  test('that ends with its connection is sent in chunks', async (t) => {
    const { client } = await startProxy(t, (socket) => {
      onHeads(socket, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\nhel');
        setImmediate(() => socket.end('lo'));
      });
    });
    client.send(get('/'));
    const received = await client.until((text) => text.endsWith('0\r\n\r\n'));
    assert.ok(received.startsWith(CHUNKED));
    assert.equal(bodyOf(received), 'hello');
  });

  test('passes its interim responses except 100', async (t) => {
    const interim =
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n';
    const { client } = await startProxy(t, responding(interim + OK));
    client.send(get('/'));
    const received = await client.until((text) => text.endsWith('ok'));
    assert.equal(received, interim.slice(25) + OK);
  });

  test('passes no interim response to HTTP/1.0', async (t) => {
    const { client } = await startProxy(t, responding(`HTTP/1.1 103 X\r\n\r\n${OK}`));
    client.send('GET / HTTP/1.0\r\n\r\n');
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 200 /);
  });
});

describe('an incomplete response', () => {
  test('is sent before it is complete', async (t) => {
    const { app, client } = await startProxy(t, (socket) => {
      onHeads(socket, () => socket.write(CHUNKED));
    });
    client.send(get('/'));
    await client.until((text) => text === CHUNKED);
    app.sockets[0]?.write('1\r\na\r\n');
    await client.until((text) => text === `${CHUNKED}1\r\na\r\n`);
  });

  test('waits in the app while the client does not read', async (t) => {
    const LENGTH = 100_000_000;
    const { app, client } = await startProxy(t, (socket) => {
      onHeads(socket, () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n\r\n`);
        socket.write(Buffer.alloc(LENGTH));
      });
    });
    client.socket.pause();
    client.send(get('/'));
    const unsent = (): number => app.sockets[0]?.writableLength ?? LENGTH;
    let last = -1;
    let unchangedTurns = 0;
    await eventually(() => {
      unchangedTurns = last === unsent() ? unchangedTurns + 1 : 0;
      last = unsent();
      return unchangedTurns === 200;
    });
    assert.ok(unsent() > LENGTH / 2, `${unsent()} of ${LENGTH} bytes are unsent`);
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    client.socket.resume();
    await eventually(() => count > LENGTH);
  });

  for (const [name, begin, isReset] of [
    ['with Content-Length', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc', false],
    ['in chunks', `${CHUNKED}3\r\nabc\r\n`, false],
    ['in chunks for HTTP/1.0', `${CHUNKED}3\r\nabc\r\n`, true],
  ] as const) {
    test(`that the app aborts is aborted for the client: ${name}`, async (t) => {
      const { app, client, owner } = await startProxy(t, responding(begin));
      let error: NodeJS.ErrnoException | undefined;
      client.socket.on('error', (reason) => (error = reason));
      client.send(isReset ? 'GET / HTTP/1.0\r\n\r\n' : get('/'));
      await client.until((text) => text.includes('abc'));
      app.sockets[0]?.destroy();
      const received = await client.untilClosed();
      assert.ok(!received.endsWith('0\r\n\r\n'));
      // Without a length and a last chunk, only a reset distinguishes an abort from the end.
      if (isReset) assert.equal(error?.code, 'ECONNRESET');
      assert.deepEqual(owner().events.slice(1), ['aborted connection-lost']);
    });
  }
});

describe('a held response head', () => {
  function holding(): { commit: () => void; prepare: (owner: Owner) => void } {
    const committed = Promise.withResolvers<undefined>();
    return {
      commit: () => committed.resolve(undefined),
      prepare: (owner) => {
        owner.outgoingFor = (head) =>
          committed.promise.then(() => ({ rawHeaders: head.rawHeaders }));
      },
    };
  }

  test('is sent with everything received meanwhile', async (t) => {
    const { commit, prepare } = holding();
    const { app, client, owner } = await startProxy(t, responding(`${CHUNKED}1\r\na\r\n`), {
      prepare,
    });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    app.sockets[0]?.write('1\r\nb\r\n0\r\n\r\n');
    await untilReusable();
    assert.deepEqual([client.received(), owner().events], ['', []]);
    commit();
    await client.until((text) => text === `${CHUNKED}1\r\na\r\n1\r\nb\r\n0\r\n\r\n`);
    assert.deepEqual(owner().events, ['started 200 stream', 'finished']);
  });

  test('applies backpressure to the app', async (t) => {
    const LENGTH = 50_000_000;
    const { commit, prepare } = holding();
    const { app, client } = await startProxy(
      t,
      (socket) => {
        onHeads(socket, () => {
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n\r\n`);
          socket.write(Buffer.alloc(LENGTH));
        });
      },
      { prepare },
    );
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    assert.ok((app.sockets[0]?.writableLength ?? 0) > LENGTH / 2);
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    commit();
    await eventually(() => count > LENGTH);
  });

  test('can still fail, and then its owner responds', async (t) => {
    const { commit, prepare } = holding();
    const response = 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc';
    const { app, client, owner } = await startProxy(t, responding(response), { prepare });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    app.sockets[0]?.destroy();
    commit();
    const received = await client.until((text) => text.includes('\r\n\r\n'));
    // Either the abort is noticed first, or the head has been sent.
    if (received.startsWith('HTTP/1.1 502')) {
      assert.deepEqual(owner().events, ['failed connection-lost']);
    } else assert.deepEqual(owner().events, ['started 200', 'aborted connection-lost']);
  });

  test('is dropped, and the app connection closed, when the client disconnects', async (t) => {
    const { commit, prepare } = holding();
    const { app, client, owner } = await startProxy(t, responding(CHUNKED), { prepare });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    client.socket.resetAndDestroy();
    await eventually(() => owner().events.includes('disconnected'));
    await eventually(() => isOver(app.sockets[0]));
    commit();
    await untilReusable();
    assert.deepEqual(owner().events, ['disconnected']);
  });

  test('can be replaced by a response of its owner', async (t) => {
    const { app, client, owner, server } = await startProxy(t, responding(`${CHUNKED}1\r\na\r\n`), {
      prepare: (owner) => (owner.outgoingFor = () => undefined),
    });
    client.send(get('/'));
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual([owner().events, client.received(), server.faults], [[], '', []]);
  });
});

/** Holds a complete body until the commit. */
class WholeBody implements BodyFilter {
  readonly seen = Promise.withResolvers<string>();
  readonly committed = Promise.withResolvers<undefined>();
  #text = '';

  push(bytes: Uint8Array): { out: undefined; until: undefined; isDone: false } {
    this.#text += Buffer.from(bytes).toString('latin1');
    return { out: undefined, until: undefined, isDone: false };
  }

  end(): { out: Uint8Array; until: Promise<void>; isDone: true } {
    this.seen.resolve(this.#text);
    return { out: Buffer.from(this.#text), until: this.committed.promise, isDone: true };
  }
}

/** Holds the first bytes until the commit, and passes the rest unseen. */
class FirstBytes implements BodyFilter {
  readonly seen = Promise.withResolvers<string>();
  readonly committed = Promise.withResolvers<undefined>();

  push(bytes: Uint8Array): { out: Uint8Array; until: Promise<void>; isDone: true } {
    this.seen.resolve(Buffer.from(bytes).toString('latin1', 0, 6));
    return { out: bytes, until: this.committed.promise, isDone: true };
  }

  end(): { out: undefined; until: undefined; isDone: true } {
    return { out: undefined, until: undefined, isDone: true };
  }
}

describe('a body that reveals an id', () => {
  const FRAMED = [
    ['with a length', ['HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc', 'def']],
    ['in chunks', [`${CHUNKED}3\r\nabc\r\n`, '3\r\ndef\r\n0\r\n\r\n']],
  ] as const;

  async function inspected(
    t: TestContext,
    inspector: BodyFilter,
    response: string,
    options: TestProxyOptions = {},
  ): Promise<TestProxy> {
    const prepare = (owner: Owner): void => {
      owner.outgoingFor = ({ rawHeaders }) => ({ rawHeaders, inspector });
    };
    const proxy = await startProxy(t, responding(response), { prepare, ...options });
    proxy.client.send(get('/'));
    return proxy;
  }

  for (const [kind, [first, second]] of FRAMED) {
    test(`is sent when its binding is committed, ${kind}`, async (t) => {
      const inspector = new WholeBody();
      const { app, client, owner } = await inspected(t, inspector, first);
      await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
      await untilReusable();
      app.sockets[0]?.write(second);
      assert.equal(await inspector.seen.promise, 'abcdef');
      for (let turn = 0; turn < 10; turn += 1) await nextTurn();
      assert.ok(!client.received().includes('abc'));
      inspector.committed.resolve(undefined);
      const received = await client.until((text) => text.includes('def'));
      await eventually(() => owner().events.includes('finished'));
      assert.equal(bodyOf(received), 'abcdef');
    });

    test(`is aborted for the client if the app aborts it, ${kind}`, async (t) => {
      const { app, client, owner } = await inspected(t, new WholeBody(), first);
      await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
      await untilReusable();
      app.sockets[0]?.destroy();
      const received = await client.untilClosed();
      assert.ok(!received.includes('abc') && !received.endsWith('0\r\n\r\n'));
      assert.equal(owner().events.at(-1), 'aborted connection-lost');
    });
  }

  for (const isHeld of [false, true]) {
    test(`passes as it came from the next chunk on, ${isHeld ? 'after a commit' : 'without one'}`, async (t) => {
      const inspector = new FirstBytes();
      const push = inspector.push.bind(inspector);
      const withoutCommit = (bytes: Uint8Array): FilteredBytes => ({
        ...push(bytes),
        until: undefined,
      });
      const filter = { push: isHeld ? push : withoutCommit, end: () => inspector.end() };
      const { app, client, owner } = await inspected(t, filter, `${CHUNKED}3;x\r\nabc\r\n`);
      await inspector.seen.promise;
      if (isHeld) {
        await untilReusable();
        inspector.committed.resolve(undefined);
      }
      await client.until((text) => text.endsWith('3\r\nabc\r\n'));
      const rest = '2;y\r\nde\r\n1;z\r\nf\r\n0\r\nX-Sum: 1\r\n\r\n';
      app.sockets[0]?.write(rest);
      const received = await client.until((text) => text.includes('X-Sum'));
      assert.ok(received.endsWith(rest), received);
      await eventually(() => owner().events.includes('finished'));
    });
  }

  for (const isHeld of [false, true]) {
    test(`passes the rest of its chunk as one chunk, ${isHeld ? 'after a commit' : 'without one'}`, async (t) => {
      const inspector = new FirstBytes();
      const push = (bytes: Uint8Array): FilteredBytes => {
        const pushed = inspector.push(bytes);
        return isHeld ? pushed : { ...pushed, until: undefined };
      };
      const filter = { push, end: () => inspector.end() };
      const { app, client, owner } = await inspected(t, filter, `${CHUNKED}186a3;x\r\nabc`);
      await inspector.seen.promise;
      if (isHeld) {
        await untilReusable();
        inspector.committed.resolve(undefined);
      }
      await client.until((text) => text.endsWith('3\r\nabc\r\n'));
      const rest = `${'d'.repeat(100_000)}\r\n1;z\r\nf\r\n0\r\nX-Sum: 1\r\n\r\n`;
      app.sockets[0]?.write(rest);
      const received = await client.until((text) => text.includes('X-Sum'));
      assert.ok(received.endsWith(`\r\n3\r\nabc\r\n186a0\r\n${rest}`));
      await eventually(() => owner().events.includes('finished'));
    });
  }

  test('that the app aborts in a chunk that has passed in part does not end as if it were complete', async (t) => {
    const inspector = new FirstBytes();
    const push = (bytes: Uint8Array): FilteredBytes => ({
      ...{ ...inspector.push(bytes), until: undefined },
    });
    const filter = { push, end: () => inspector.end() };
    const { app, client, owner } = await inspected(t, filter, `${CHUNKED}9\r\nabc`);
    await client.until((text) => text.endsWith('3\r\nabc\r\n'));
    app.sockets[0]?.end('def');
    const received = await client.untilClosed();
    assert.ok(received.endsWith('3\r\nabc\r\n6\r\ndef') || received.endsWith('abc\r\n'), received);
    assert.equal(owner().events.at(-1), 'aborted connection-lost');
  });

  test('of many chunks that came during the commit is complete', async (t) => {
    const inspector = new FirstBytes();
    const chunks = Array.from({ length: 500 }, (_, i) => `4\r\n${String(1_000 + i)}\r\n`);
    const response = `${CHUNKED}${chunks.join('')}0\r\n\r\n`;
    const { client, owner } = await inspected(t, inspector, response);
    await inspector.seen.promise;
    await untilReusable();
    inspector.committed.resolve(undefined);
    const received = await client.until((text) => text.endsWith('0\r\n\r\n'));
    await eventually(() => owner().events.includes('finished'));
    const numbers = chunks.map((_, i) => String(1_000 + i));
    assert.equal(dataOf(received), numbers.join(''));
  });

  test('that the app aborts during the commit is aborted for the client', async (t) => {
    const inspector = new FirstBytes();
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n';
    const proxy = await inspected(t, inspector, head + 'a'.repeat(16_385));
    const { app, client, owner } = proxy;
    assert.equal(await inspector.seen.promise, 'aaaaaa');
    // The head would be sent by now if it did not wait for the body.
    await nextTurn();
    const [socket] = app.sockets;
    assert.ok(socket);
    // The app is not read while the body is held: only the next read reveals the disconnect.
    socket.destroy();
    inspector.committed.resolve(undefined);
    const received = await client.untilClosed();
    assert.ok(bodyOf(received).length < 20_000);
    assert.equal(owner().events.at(-1), 'aborted connection-lost');
  });

  test('is not read further during the commit, and continues after it', async (t) => {
    const LENGTH = 50_000_000;
    const inspector = new FirstBytes();
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n\r\n`;
    const { app, client } = await inspected(t, inspector, `${head}abcdef`);
    await inspector.seen.promise;
    app.sockets[0]?.write(Buffer.alloc(LENGTH - 6));
    await untilReusable();
    assert.ok((app.sockets[0]?.writableLength ?? 0) > LENGTH / 2);
    assert.equal(client.received(), '');
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    inspector.committed.resolve(undefined);
    await eventually(() => count > LENGTH);
  });

  test('ends the app connection when the client disconnects during the commit', async (t) => {
    const inspector = new FirstBytes();
    const { app, client, owner } = await inspected(t, inspector, `${CHUNKED}3\r\nabc\r\n`);
    await inspector.seen.promise;
    client.socket.resetAndDestroy();
    await eventually(() => owner().events.includes('disconnected'));
    await eventually(() => isOver(app.sockets[0]));
    inspector.committed.resolve(undefined);
    await untilReusable();
    assert.deepEqual(owner().events, ['started 200 stream', 'disconnected']);
  });

  test('whose commit throws ends both connections', async (t) => {
    const inspector = new FirstBytes();
    const { app, client, owner } = await inspected(t, inspector, `${CHUNKED}3\r\nabc\r\n`);
    await inspector.seen.promise;
    inspector.committed.reject(new Error('unexpected'));
    assert.ok(!(await client.untilClosed()).includes('abc'));
    await eventually(() => isOver(app.sockets[0]));
    assert.equal(owner().events.at(1), 'fault unexpected');
  });
});

describe('the body of a request', () => {
  for (const [framing, parts] of [
    ['Content-Length: 6', ['abc', 'def']],
    ['Transfer-Encoding: chunked', ['3;x\r\nabc\r\n', '3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n']],
  ] as const) {
    test(`is sent with its framing while it arrives: ${framing}`, async (t) => {
      const received: string[] = [];
      const { client } = await startProxy(
        t,
        recordingApp(received, (socket, text) => text.endsWith(parts.join('')) && socket.write(OK)),
      );
      client.send(`${POST}${framing}\r\n\r\n${parts[0]}`);
      await eventually(() => received[0]?.endsWith(`\r\n\r\n${parts[0]}`) ?? false);
      client.send(parts[1]);
      await client.until((text) => text === OK);
      assert.equal(received[0], `${POST}${framing}\r\n\r\n${parts.join('')}`);
    });
  }

  test('waits in the client while the app does not read, and arrives complete', async (t) => {
    const LENGTH = 50_000_000;
    const { app, client } = await startProxy(t, (socket) => socket.pause());
    client.send(`${POST}Content-Length: ${LENGTH}\r\n\r\n`);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    let last = -1;
    let unchangedTurns = 0;
    await eventually(() => {
      const { writableLength } = client.socket;
      unchangedTurns = last === writableLength && app.sockets.length > 0 ? unchangedTurns + 1 : 0;
      last = writableLength;
      return unchangedTurns === 200;
    });
    assert.ok(client.socket.writableLength > LENGTH / 2);
    const [socket] = app.sockets;
    let count = 0;
    socket?.on('data', (bytes: Buffer) => {
      count += bytes.length;
      if (count > LENGTH) socket.write(OK);
    });
    socket?.resume();
    await client.until((text) => text === OK);
  });

  const BROKEN: readonly (readonly [
    name: string,
    framing: string,
    abort: (client: RawClient) => void,
    events: string,
  ])[] = [
    [
      'has an invalid chunk',
      'Transfer-Encoding: chunked',
      (client) => client.send('zz\r\n'),
      'malformed 400',
    ],
    ['ends in the middle', 'Content-Length: 9', ({ socket }) => socket.end(), 'disconnected'],
    ['ends in a chunk', 'Transfer-Encoding: chunked', ({ socket }) => socket.end(), 'disconnected'],
    ['is reset', 'Content-Length: 9', ({ socket }) => socket.resetAndDestroy(), 'disconnected'],
  ];
  for (const [name, framing, abort, events] of BROKEN) {
    test(`that ${name} closes the app connection, and no extra byte is sent`, async (t) => {
      const seen: { text: string; hasEnded: boolean }[] = [];
      const { client, owner } = await startProxy(t, (socket) => seen.push(transcript(socket)));
      const begin = framing.startsWith('C') ? 'abc' : '3\r\nabc\r\n';
      client.send(`${POST}${framing}\r\n\r\n${begin}`);
      await eventually(() => seen[0]?.text.endsWith(begin) ?? false);
      abort(client);
      await eventually(() => seen[0]?.hasEnded ?? false);
      assert.equal(seen[0]?.text, `${POST}${framing}\r\n\r\n${begin}`);
      assert.deepEqual(owner().events, [events]);
    });
  }

  test('is followed by the next request, which the app receives as a request', async (t) => {
    const heads: string[] = [];
    const { client } = await startProxy(t, (socket) => {
      socket.on('data', (bytes: Buffer) => {
        heads.push(bytes.toString('latin1'));
        socket.write(OK);
      });
    });
    client.send(`${POST}Content-Length: 3\r\n\r\nabcGET /next HTTP/1.1\r\nHost: a\r\n\r\n`);
    await client.until((text) => text === OK + OK);
    assert.deepEqual(heads, [`${POST}Content-Length: 3\r\n\r\nabc`, get('/next')]);
  });

  test('is requested with 100 Continue if the client waits for it', async (t) => {
    const received: string[] = [];
    const { client } = await startProxy(
      t,
      recordingApp(received, (socket, text) => text.endsWith('abc') && socket.write(OK)),
    );
    client.send(`${POST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n`);
    await client.until((text) => text === 'HTTP/1.1 100 Continue\r\n\r\n');
    client.send('abc');
    await client.until((text) => text === `HTTP/1.1 100 Continue\r\n\r\n${OK}`);
    assert.equal(received[0], `${POST}Content-Length: 3\r\n\r\nabc`);
  });

  for (const ending of ['stays', 'ends', 'resets'] as const) {
    test(`does not prevent a complete early response if the app connection ${ending}`, async (t) => {
      const early = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno';
      const { app, client, owner } = await startProxy(t, responding(early));
      client.send(`${POST}Content-Length: 100000\r\n\r\n`);
      await client.until((text) => text === early);
      if (ending === 'ends') app.sockets[0]?.end();
      if (ending === 'resets') app.sockets[0]?.resetAndDestroy();
      if (ending !== 'stays') await eventually(() => owner().events.includes('finished'));
      client.socket.write(Buffer.alloc(100_000), () => undefined);
      if (ending === 'stays') await eventually(() => owner().events.includes('finished'));
      assert.equal(client.received(), early);
      assert.deepEqual(owner().events, ['started 413', 'finished']);
      // The response did not announce the end of the connection.
      client.send(get('/next'));
      await client.until((text) => text === early + early);
    });
  }
});

test('a client that disconnects during its upload, after the complete response, counts as finished', async (t) => {
  const early = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno';
  for (const disconnect of ['end', 'destroy', 'resetAndDestroy'] as const) {
    const { client, owner } = await startProxy(t, responding(early));
    client.send(`${POST}Content-Length: 100000\r\n\r\n`);
    await client.until((text) => text === early);
    client.socket[disconnect]();
    await eventually(() => owner().events.length > 1);
    assert.deepEqual(owner().events, ['started 413', 'finished']);
  }
});

describe('a retry', () => {
  /** Serves one request on each connection, and closes on the next. */
  function losing(received: string[]): (socket: Socket, index: number) => void {
    return recordingApp(received, (socket, text) => {
      if (text.split('HTTP/1.1').length > 2) socket.end();
      else if (text.endsWith('\r\n\r\n') || text.endsWith('abc')) socket.write(OK);
    });
  }

  async function warm(proxy: TestProxy): Promise<void> {
    proxy.client.send(get('/warm'));
    await proxy.client.until((text) => text === OK);
    await untilReusable();
  }

  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
    test(`uses a new connection if the idle one closes at the same moment: ${method}`, async (t) => {
      const received: string[] = [];
      const proxy = await startProxy(t, losing(received));
      await warm(proxy);
      proxy.client.send(`${method} /again HTTP/1.1\r\nHost: a\r\n\r\n`);
      await eventually(() => received.length === 2);
      await eventually(() => proxy.owner(1).events.includes('finished'));
      assert.equal(proxy.app.sockets.length, 2);
      assert.ok(received[1]?.startsWith(`${method} /again `));
    });
  }

  for (const method of ['POST', 'PATCH', 'UNKNOWN']) {
    test(`does not happen for a method that is not safe to retry: ${method}`, async (t) => {
      const proxy = await startProxy(t, losing([]));
      await warm(proxy);
      proxy.client.send(`${method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc`);
      await proxy.client.until((text) => text.includes('HTTP/1.1 502'));
      assert.equal(proxy.app.sockets.length, 1);
      const { wasNotSent, wasReused } = proxy.owner(1).error ?? {};
      assert.deepEqual([wasNotSent, wasReused], [false, true]);
    });
  }

  test('happens once', async (t) => {
    let count = 0;
    const proxy = await startProxy(t, (socket) => {
      onHeads(socket, () => {
        count += 1;
        if (count === 1) socket.write(OK);
        else socket.end();
      });
    });
    await warm(proxy);
    proxy.client.send(get('/'));
    await proxy.client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual([count, proxy.app.sockets.length], [3, 2]);
  });

  test('does not happen on a new connection', async (t) => {
    const { app, client, owner } = await startProxy(t, (socket) => {
      onHeads(socket, () => socket.end());
    });
    client.send(get('/'));
    await client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual([app.sockets.length, owner().events], [1, ['failed connection-lost']]);
  });

  for (const [name, body] of [
    ['without a body', ''],
    ['with a body in the same packet', 'abc'],
  ] as const) {
    test(`happens for every request that was not sent: a POST ${name}`, async (t) => {
      const clock = createTestClock();
      const received: string[] = [];
      const respond = (socket: Socket): void => void socket.write(OK);
      const proxy = await startProxy(t, recordingApp(received, respond), { clock });
      await warm(proxy);
      await clock.advance(250);
      // The FIN has arrived, unread.
      proxy.app.sockets[0]?.end();
      proxy.client.send(`${POST}Content-Length: ${body.length}\r\n\r\n${body}`);
      await proxy.client.until((text) => text === OK + OK);
      assert.deepEqual(received, [
        get('/warm'),
        `${POST}Content-Length: ${body.length}\r\n\r\n${body}`,
      ]);
    });
  }

  test('happens for a POST that was not sent, even if more of its body has arrived', async (t) => {
    const clock = createTestClock();
    const received: string[] = [];
    const respond = (socket: Socket, text: string): unknown =>
      /\r\n\r\n$|def$/.test(text) && socket.write(OK);
    const proxy = await startProxy(t, recordingApp(received, respond), { clock });
    await warm(proxy);
    await clock.advance(250);
    proxy.app.sockets[0]?.end();
    // The rest of the body arrives in the turn in which the idle connection is checked.
    const head = `${POST}Content-Length: 6\r\n\r\n`;
    const incoming = createIncomingRequest(t, head);
    incoming.deliver(Buffer.from('abc'));
    const owner = new Owner(incoming);
    createPipe(incoming, proxy.upstream, owner).start();
    incoming.deliver(Buffer.from('def'));
    incoming.deliverEnd();
    await eventually(() => owner.events.length === 2);
    assert.deepEqual(owner.events, ['started 200', 'finished']);
    assert.deepEqual(received, [get('/warm'), `${head}abcdef`]);
  });
});

describe('a protocol switch', () => {
  const ASK = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
  const SWITCH =
    'HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

  test('pipes both connections, including the first bytes after the heads', async (t) => {
    const received: string[] = [];
    const { app, client, owner } = await startProxy(
      t,
      recordingApp(received, (socket, text) => text.endsWith('ping') && socket.write('pong')),
    );
    client.send(ASK);
    await eventually(() => received[0]?.endsWith('\r\n\r\n') ?? false);
    app.sockets[0]?.write(`${SWITCH}early`);
    await client.until((text) => text === `${SWITCH}early`);
    client.send('ping');
    await client.until((text) => text === `${SWITCH}earlypong`);
    assert.deepEqual(received, [`${ASK}ping`]);
    client.socket.end();
    app.sockets[0]?.end();
    await eventually(() => owner().events.includes('finished'));
    assert.deepEqual(owner().events, ['tunnel 101', 'finished']);
  });

  test('that is held buffers the bytes of both sides', async (t) => {
    const committed = Promise.withResolvers<undefined>();
    const received: string[] = [];
    const { app, client } = await startProxy(
      t,
      recordingApp(received, (socket, text) => text === ASK && socket.write(SWITCH)),
      {
        prepare: (owner) => {
          owner.outgoingFor = ({ rawHeaders }) => committed.promise.then(() => ({ rawHeaders }));
        },
      },
    );
    client.send(ASK);
    await eventually(() => received[0] === ASK);
    await untilReusable();
    app.sockets[0]?.write('from the app');
    client.send('from the client');
    await untilReusable();
    assert.deepEqual([client.received(), received], ['', [ASK]]);
    committed.resolve(undefined);
    await client.until((text) => text === `${SWITCH}from the app`);
    await eventually(() => received[0] === `${ASK}from the client`);
  });

  test('that is held is closed if the client disconnects', async (t) => {
    const committed = Promise.withResolvers<undefined>();
    const { app, client, owner } = await startProxy(t, responding(SWITCH), {
      prepare: (owner) => {
        owner.outgoingFor = ({ rawHeaders }) => committed.promise.then(() => ({ rawHeaders }));
      },
    });
    client.send(ASK);
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await untilReusable();
    client.socket.resetAndDestroy();
    await eventually(() => owner().events.includes('disconnected'));
    committed.resolve(undefined);
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual(owner().events, ['disconnected']);
  });

  for (const [how, disconnect] of [
    ['reset', (socket: Socket) => void socket.resetAndDestroy()],
    ['close', (socket: Socket) => void socket.destroy()],
  ] as const) {
    test(`ends for the app when the client disconnects with a ${how}`, async (t) => {
      const { app, client, owner } = await startProxy(t, responding(SWITCH));
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      disconnect(client.socket);
      const [first] = app.sockets;
      await eventually(() => isOver(first));
      first?.end();
      await eventually(() => owner().events.includes('finished'));
    });
  }

  for (const how of ['resetAndDestroy', 'destroy', 'end'] as const) {
    test(`ends for the client when the app disconnects with ${how}, and all resources are released`, async (t) => {
      const { app, client, owner, server, upstream } = await startProxy(t, responding(SWITCH));
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      app.sockets[0]?.[how]();
      await client.untilClosed();
      await eventually(() => owner().events.includes('finished'));
      assert.deepEqual(owner().events, ['tunnel 101', 'finished']);
      await eventually(() => upstream.pool.connectionCount === 0);
      assert.deepEqual([server.listener.busyCount(), server.sweep.size], [0, 0]);
    });
  }
});

describe('a response pipe', () => {
  test('ends on fail(), but not after the response head was sent', async (t) => {
    const first = await startProxy(t, (socket) => transcript(socket));
    first.client.send(get('/'));
    await eventually(() => first.app.sockets.length === 1);
    first.pipe().fail('peer-unresponsive', 'no');
    await first.client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual(first.owner().events, ['failed peer-unresponsive']);
    await eventually(() => first.upstream.pool.connectionCount === 0);

    const second = await startProxy(t, responding(`${CHUNKED}1\r\na\r\n`));
    second.client.send(get('/'));
    await second.client.until((text) => text.endsWith('a\r\n'));
    second.pipe().fail('peer-unresponsive', 'too late');
    second.app.sockets[0]?.write('0\r\n\r\n');
    await second.client.until((text) => text.endsWith('0\r\n\r\n'));
    assert.deepEqual(second.owner().events, ['started 200 stream', 'finished']);
  });

  test('closes the app connection when the client disconnects', async (t) => {
    const { app, client, owner } = await startProxy(t, (socket) => transcript(socket));
    client.send(get('/'));
    await eventually(() => app.sockets.length === 1 && (app.sockets[0]?.bytesRead ?? 0) > 0);
    client.socket.resetAndDestroy();
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual(owner().events, ['disconnected']);
  });

  for (const [name, response] of [
    ['head', OK],
    ['switch', 'HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'],
  ] as const) {
    test(`whose owner throws at a ${name} ends both connections and no others`, async (t) => {
      const faults: unknown[] = [];
      const unexpected = new Error('unexpected');
      const { app, client, owner, server } = await startProxy(t, responding(response), {
        prepare: (owner) => {
          owner.outgoingFor = () => {
            throw unexpected;
          };
        },
        onFault: (error) => faults.push(error),
      });
      const other = await server.connect();
      client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      assert.equal(await client.untilClosed(), '');
      await eventually(() => isOver(app.sockets[0]));
      assert.deepEqual([faults, owner().events], [[unexpected], ['fault']]);
      assert.equal(other.socket.destroyed, false);
    });
  }
});
