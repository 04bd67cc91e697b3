/** A request on its way to an app and its response on its way back, between bare sockets. */
import type { MalformedRequest } from '../../src/http/malformed-request.ts';
import { formatRequest } from '../../src/http/request-head.ts';
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  ResponsePipe,
  type BodyFilter,
  type OutgoingResponse,
  type PipeOwner,
} from '../../src/http/response-pipe.ts';
import type { ParsedResponseHead } from '../../src/http/response-head.ts';
import type { IncomingRequest } from '../../src/http/incoming-request.ts';
import type { UpstreamError } from '../../src/http/upstream-error.ts';
import { createTestClock } from '../support/clock.ts';
import type { RawClient } from '../support/raw.ts';
import {
  cooled,
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
import { createExchange, get, startListener, type TestListener } from './client-support.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';

/** Passes everything on as it comes, and writes down what it is told. */
class Owner implements PipeOwner {
  readonly told: string[] = [];
  error: UpstreamError | undefined;
  passageOf: (
    head: ParsedResponseHead,
  ) => OutgoingResponse | Promise<OutgoingResponse> | undefined = (head) => ({
    rawHeaders: head.rawHeaders,
  });
  readonly #exchange: IncomingRequest;

  constructor(exchange: IncomingRequest) {
    this.#exchange = exchange;
  }

  onInterim(head: ParsedResponseHead): readonly string[] {
    return head.rawHeaders;
  }

  onResponse(head: ParsedResponseHead): OutgoingResponse | Promise<OutgoingResponse> | undefined {
    return this.passageOf(head);
  }

  onResponseStarted(statusCode: number, isStream: boolean): void {
    this.told.push(`flowing ${statusCode}${isStream ? ' stream' : ''}`);
  }

  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse> | undefined {
    return this.passageOf(head);
  }

  onTunnel(statusCode: number): void {
    this.told.push(`tunnel ${statusCode}`);
  }

  onFailed(error: UpstreamError): void {
    this.error = error;
    this.told.push(`failed ${error.code}`);
    this.#exchange.respond({ status: 502, headers: [], body: '' });
  }

  onResponseAborted(error: UpstreamError): void {
    this.error = error;
    this.told.push(`cut ${error.code}`);
  }

  onMalformedBody({ status }: MalformedRequest): void {
    this.told.push(`broken ${status}`);
    this.#exchange.respond({ status, headers: [], body: '' }, true);
  }

  onClientDisconnected(): void {
    this.told.push('gone');
  }

  onFinished(): void {
    this.told.push('finished');
  }

  onFault(error?: unknown): void {
    this.told.push(error instanceof Error ? `fault ${error.message}` : 'fault');
  }
}

interface World {
  readonly app: RawServer;
  readonly upstream: TestUpstream;
  readonly server: TestListener;
  readonly client: RawClient;
  /** Of a request, the first one if not said otherwise. */
  readonly owner: (index?: number) => Owner;
  readonly relay: (index?: number) => ResponsePipe;
}

interface WorldOptions extends TestUpstreamOptions {
  /** Prepares an owner before its request goes out. */
  readonly prepare?: (owner: Owner) => void;
}

async function startWorld(
  t: TestContext,
  onConnection: (socket: Socket, index: number) => void,
  { prepare, ...options }: WorldOptions = {},
): Promise<World> {
  const app = await startRawServer(t, onConnection);
  const upstream = openUpstream(t, app.port, options);
  const owners: Owner[] = [];
  const relays: ResponsePipe[] = [];
  const server = await startListener(t, (exchange) => {
    const owner = new Owner(exchange);
    prepare?.(owner);
    const relay = createRelay(exchange, upstream, owner);
    owners.push(owner);
    relays.push(relay);
    relay.start();
  });
  const client = await server.connect();
  const at =
    <Value>(values: readonly Value[]) =>
    (index = 0): Value => {
      const value = values[index];
      assert.ok(value);
      return value;
    };
  return { app, upstream, server, client, owner: at(owners), relay: at(relays) };
}

function createRelay(
  exchange: IncomingRequest,
  { pool }: TestUpstream,
  owner: Owner,
): ResponsePipe {
  const { head } = exchange;
  const text = formatRequest(head, {
    target: head.target,
    rawHeaders: head.rawHeaders,
    added: '',
    asksForUpgrade: head.upgrade !== undefined,
  });
  const request = {
    method: head.method,
    head: text,
    body: exchange.takeEarly(),
    isComplete: exchange.isBodyComplete,
    upgrade: head.upgrade,
  };
  return new ResponsePipe(exchange, pool, request, owner);
}

/** Whether the other side has ended a connection. */
function isOver(socket: Socket | undefined): boolean {
  return socket !== undefined && (socket.readableEnded || socket.destroyed);
}

/** Everything that an app has received on all its connections, in order. */
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

/** The text of a body, framed by a length or in chunks. */
function bodyOf(received: string): string {
  const body = received.slice(received.indexOf('\r\n\r\n') + 4);
  if (!/^Transfer-Encoding: chunked\r$/m.test(received)) return body;
  return body.replace(/([0-9a-f]+)\r\n([^]*?)\r\n/g, '$2').replace(/\r\n$/, '');
}

describe('a response', () => {
  const rows: readonly (readonly [
    name: string,
    response: string,
    request: string,
    received: string,
    told: string,
  ])[] = [
    ['of known length passes as it came', OK, get('/'), OK, 'flowing 200'],
    [
      'in chunks passes as it was framed, less what trailers must not say',
      `${CHUNKED}3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n`,
      get('/'),
      `${CHUNKED}3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n`,
      'flowing 200 stream',
    ],
    [
      'in chunks is plain and ends with the connection for HTTP/1.0',
      `${CHUNKED}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`,
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
      'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde',
      'flowing 200 stream',
    ],
    [
      'of known length keeps the connection of HTTP/1.0 that asks for it',
      OK,
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok',
      'flowing 200',
    ],
    [
      'to HEAD says how a body would be framed, and has none',
      CHUNKED,
      'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n',
      CHUNKED,
      'flowing 200',
    ],
    [
      'to HEAD keeps its length',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
      'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
      'flowing 200',
    ],
    [
      'of 204 has no length (RFC 9110 §8.6)',
      'HTTP/1.1 204 No Content\r\nX: y\r\nContent-Length: 0\r\n\r\n',
      get('/'),
      'HTTP/1.1 204 No Content\r\nX: y\r\n\r\n',
      'flowing 204',
    ],
    [
      'loses the fields of its connection, and no others',
      'HTTP/1.1 200 Fine\r\nSERVER: x\r\nKeep-Alive: timeout=5\r\nx-a: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 2\r\nX-A: 3\r\nContent-Length: 0\r\n\r\n',
      get('/'),
      'HTTP/1.1 200 Fine\r\nSERVER: x\r\nx-a: 1\r\nX-A: 3\r\nContent-Length: 0\r\n\r\n',
      'flowing 200',
    ],
  ];
  for (const [name, response, request, received, told] of rows) {
    test(name, async (t) => {
      const { client, owner } = await startWorld(t, responding(response));
      client.send(request);
      assert.equal(await client.until((text) => text.length >= received.length), received);
      assert.deepEqual(owner().told, [told, 'finished']);
    });
  }

  test('that ends with its connection goes out in chunks', async (t) => {
    const { client } = await startWorld(t, (socket) => {
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

  test('goes out before all of it has come', async (t) => {
    const { app, client } = await startWorld(t, (socket) => {
      onHeads(socket, () => socket.write(CHUNKED));
    });
    client.send(get('/'));
    await client.until((text) => text === CHUNKED);
    app.sockets[0]?.write('1\r\na\r\n');
    await client.until((text) => text === `${CHUNKED}1\r\na\r\n`);
  });

  test('passes its interim responses, but a 100', async (t) => {
    const interims =
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n';
    const { client } = await startWorld(t, responding(interims + OK));
    client.send(get('/'));
    const received = await client.until((text) => text.endsWith('ok'));
    assert.equal(received, interims.slice(25) + OK);
  });

  test('passes no interim response to HTTP/1.0', async (t) => {
    const { client } = await startWorld(t, responding(`HTTP/1.1 103 X\r\n\r\n${OK}`));
    client.send('GET / HTTP/1.0\r\n\r\n');
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 200 /);
  });

  test('waits in the app while its client takes no more', async (t) => {
    const LENGTH = 100_000_000;
    const { app, client } = await startWorld(t, (socket) => {
      onHeads(socket, () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n\r\n`);
        socket.write(Buffer.alloc(LENGTH));
      });
    });
    client.socket.pause();
    client.send(get('/'));
    const unsent = (): number => app.sockets[0]?.writableLength ?? LENGTH;
    let last = -1;
    let stillTurns = 0;
    await eventually(() => {
      stillTurns = last === unsent() ? stillTurns + 1 : 0;
      last = unsent();
      return stillTurns === 200;
    });
    assert.ok(unsent() > LENGTH / 2, `${unsent()} of ${LENGTH} are left`);
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    client.socket.resume();
    await eventually(() => count > LENGTH);
  });

  for (const [name, begin, isReset] of [
    ['of known length', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc', false],
    ['in chunks', `${CHUNKED}3\r\nabc\r\n`, false],
    ['in chunks for HTTP/1.0', `${CHUNKED}3\r\nabc\r\n`, true],
  ] as const) {
    test(`that breaks off upstream breaks off for the client: ${name}`, async (t) => {
      const { app, client, owner } = await startWorld(t, responding(begin));
      let error: NodeJS.ErrnoException | undefined;
      client.socket.on('error', (reason) => (error = reason));
      client.send(isReset ? 'GET / HTTP/1.0\r\n\r\n' : get('/'));
      await client.until((text) => text.includes('abc'));
      app.sockets[0]?.destroy();
      const received = await client.untilClosed();
      assert.ok(!received.endsWith('0\r\n\r\n'));
      // Only a reset tells a break from an end where there is neither a length nor a last chunk.
      if (isReset) assert.equal(error?.code, 'ECONNRESET');
      assert.deepEqual(owner().told.slice(1), ['cut connection-lost']);
    });
  }
});

describe('the head of a response that is held back', () => {
  function holding(): { commit: () => void; prepare: (owner: Owner) => void } {
    const committed = Promise.withResolvers<undefined>();
    return {
      commit: () => committed.resolve(undefined),
      prepare: (owner) => {
        owner.passageOf = (head) => committed.promise.then(() => ({ rawHeaders: head.rawHeaders }));
      },
    };
  }

  test('goes out with all that came meanwhile', async (t) => {
    const { commit, prepare } = holding();
    const { app, client, owner } = await startWorld(t, responding(`${CHUNKED}1\r\na\r\n`), {
      prepare,
    });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await cooled();
    app.sockets[0]?.write('1\r\nb\r\n0\r\n\r\n');
    await cooled();
    assert.deepEqual([client.received(), owner().told], ['', []]);
    commit();
    await client.until((text) => text === `${CHUNKED}1\r\na\r\n1\r\nb\r\n0\r\n\r\n`);
    assert.deepEqual(owner().told, ['flowing 200 stream', 'finished']);
  });

  test('stops the app meanwhile', async (t) => {
    const LENGTH = 50_000_000;
    const { commit, prepare } = holding();
    const { app, client } = await startWorld(
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
    await cooled();
    assert.ok((app.sockets[0]?.writableLength ?? 0) > LENGTH / 2);
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    commit();
    await eventually(() => count > LENGTH);
  });

  test('can still fail, and its owner respond', async (t) => {
    const { commit, prepare } = holding();
    const response = 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc';
    const { app, client, owner } = await startWorld(t, responding(response), { prepare });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await cooled();
    app.sockets[0]?.destroy();
    commit();
    const received = await client.until((text) => text.includes('\r\n\r\n'));
    // Either the break is seen first, or the head has gone out.
    if (received.startsWith('HTTP/1.1 502')) {
      assert.deepEqual(owner().told, ['failed connection-lost']);
    } else assert.deepEqual(owner().told, ['flowing 200', 'cut connection-lost']);
  });

  test('is dropped with its app when the client leaves', async (t) => {
    const { commit, prepare } = holding();
    const { app, client, owner } = await startWorld(t, responding(CHUNKED), { prepare });
    client.send(get('/'));
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await cooled();
    client.socket.resetAndDestroy();
    await eventually(() => owner().told.includes('gone'));
    await eventually(() => isOver(app.sockets[0]));
    commit();
    await cooled();
    assert.deepEqual(owner().told, ['gone']);
  });

  test('can be given up for a response of its owner', async (t) => {
    const { app, client, owner, server } = await startWorld(t, responding(`${CHUNKED}1\r\na\r\n`), {
      prepare: (owner) => (owner.passageOf = () => undefined),
    });
    client.send(get('/'));
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual([owner().told, client.received(), server.faults], [[], '', []]);
  });
});

/** Holds all of a body, and then its first six letters until they are committed. */
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

/** Holds from the first bytes on that hold a session, and passes the rest unseen. */
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
    options: WorldOptions = {},
  ): Promise<World> {
    const prepare = (owner: Owner): void => {
      owner.passageOf = ({ rawHeaders }) => ({ rawHeaders, inspector });
    };
    const world = await startWorld(t, responding(response), { prepare, ...options });
    world.client.send(get('/'));
    return world;
  }

  for (const [kind, [first, second]] of FRAMED) {
    test(`goes out once its binding is committed, ${kind}`, async (t) => {
      const inspector = new WholeBody();
      const { app, client, owner } = await inspected(t, inspector, first);
      await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
      await cooled();
      app.sockets[0]?.write(second);
      assert.equal(await inspector.seen.promise, 'abcdef');
      for (let turn = 0; turn < 10; turn += 1) await nextTurn();
      assert.ok(!client.received().includes('abc'));
      inspector.committed.resolve(undefined);
      const received = await client.until((text) => text.includes('def'));
      await eventually(() => owner().told.includes('finished'));
      assert.equal(bodyOf(received), 'abcdef');
    });

    test(`breaks off for the client as it does upstream, ${kind}`, async (t) => {
      const { app, client, owner } = await inspected(t, new WholeBody(), first);
      await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
      await cooled();
      app.sockets[0]?.destroy();
      const received = await client.untilClosed();
      assert.ok(!received.includes('abc') && !received.endsWith('0\r\n\r\n'));
      assert.equal(owner().told.at(-1), 'cut connection-lost');
    });
  }

  test('that breaks off while its binding is committed breaks off for the client', async (t) => {
    const inspector = new FirstBytes();
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n';
    const world = await inspected(t, inspector, head + 'a'.repeat(16_385));
    const { app, client, owner } = world;
    assert.equal(await inspector.seen.promise, 'aaaaaa');
    // The head would have gone out by now if it did not wait for the body.
    await nextTurn();
    const [socket] = app.sockets;
    assert.ok(socket);
    // The app is not read from while it holds: only the next read tells that it has left.
    socket.destroy();
    inspector.committed.resolve(undefined);
    const received = await client.untilClosed();
    assert.ok(bodyOf(received).length < 20_000);
    assert.equal(owner().told.at(-1), 'cut connection-lost');
  });

  test('asks for no more while it is committed, and goes on then', async (t) => {
    const LENGTH = 50_000_000;
    const inspector = new FirstBytes();
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${LENGTH}\r\n\r\n`;
    const { app, client } = await inspected(t, inspector, `${head}abcdef`);
    await inspector.seen.promise;
    app.sockets[0]?.write(Buffer.alloc(LENGTH - 6));
    await cooled();
    assert.ok((app.sockets[0]?.writableLength ?? 0) > LENGTH / 2);
    assert.equal(client.received(), '');
    let count = 0;
    client.socket.removeAllListeners('data').on('data', (text: string) => (count += text.length));
    inspector.committed.resolve(undefined);
    await eventually(() => count > LENGTH);
  });

  test('ends with its app when the client leaves while it is committed', async (t) => {
    const inspector = new FirstBytes();
    const { app, client, owner } = await inspected(t, inspector, `${CHUNKED}3\r\nabc\r\n`);
    await inspector.seen.promise;
    client.socket.resetAndDestroy();
    await eventually(() => owner().told.includes('gone'));
    await eventually(() => isOver(app.sockets[0]));
    inspector.committed.resolve(undefined);
    await cooled();
    assert.deepEqual(owner().told, ['flowing 200 stream', 'gone']);
  });

  test('whose commit fails with an exception ends both connections', async (t) => {
    const inspector = new FirstBytes();
    const { app, client, owner } = await inspected(t, inspector, `${CHUNKED}3\r\nabc\r\n`);
    await inspector.seen.promise;
    inspector.committed.reject(new Error('unexpected'));
    assert.ok(!(await client.untilClosed()).includes('abc'));
    await eventually(() => isOver(app.sockets[0]));
    assert.equal(owner().told.at(1), 'fault unexpected');
  });
});

describe('the body of a request', () => {
  for (const [framing, parts] of [
    ['Content-Length: 6', ['abc', 'def']],
    ['Transfer-Encoding: chunked', ['3;x\r\nabc\r\n', '3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n']],
  ] as const) {
    test(`goes out as it was framed, while it comes: ${framing}`, async (t) => {
      const received: string[] = [];
      const { client } = await startWorld(
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

  test('waits in the client while the app takes no more, and arrives whole', async (t) => {
    const LENGTH = 50_000_000;
    const { app, client } = await startWorld(t, (socket) => socket.pause());
    client.send(`${POST}Content-Length: ${LENGTH}\r\n\r\n`);
    client.socket.write(Buffer.alloc(LENGTH, 'x'));
    let last = -1;
    let stillTurns = 0;
    await eventually(() => {
      const { writableLength } = client.socket;
      stillTurns = last === writableLength && app.sockets.length > 0 ? stillTurns + 1 : 0;
      last = writableLength;
      return stillTurns === 200;
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
    breakOff: (client: RawClient) => void,
    told: string,
  ])[] = [
    ['is no chunk', 'Transfer-Encoding: chunked', (client) => client.send('zz\r\n'), 'broken 400'],
    ['is left in the middle', 'Content-Length: 9', ({ socket }) => socket.end(), 'gone'],
    ['is left in a chunk', 'Transfer-Encoding: chunked', ({ socket }) => socket.end(), 'gone'],
    ['is reset', 'Content-Length: 9', ({ socket }) => socket.resetAndDestroy(), 'gone'],
  ];
  for (const [name, framing, breakOff, told] of BROKEN) {
    test(`that ${name} takes its connection to the app with it, and no byte too many goes out`, async (t) => {
      const seen: { text: string; hasEnded: boolean }[] = [];
      const { client, owner } = await startWorld(t, (socket) => seen.push(transcript(socket)));
      const begin = framing.startsWith('C') ? 'abc' : '3\r\nabc\r\n';
      client.send(`${POST}${framing}\r\n\r\n${begin}`);
      await eventually(() => seen[0]?.text.endsWith(begin) ?? false);
      breakOff(client);
      await eventually(() => seen[0]?.hasEnded ?? false);
      assert.equal(seen[0]?.text, `${POST}${framing}\r\n\r\n${begin}`);
      assert.deepEqual(owner().told, [told]);
    });
  }

  test('that is longer than it said is followed by another request, which the app gets as one', async (t) => {
    const heads: string[] = [];
    const { client } = await startWorld(t, (socket) => {
      socket.on('data', (bytes: Buffer) => {
        heads.push(bytes.toString('latin1'));
        socket.write(OK);
      });
    });
    client.send(`${POST}Content-Length: 3\r\n\r\nabcGET /next HTTP/1.1\r\nHost: a\r\n\r\n`);
    await client.until((text) => text === OK + OK);
    assert.deepEqual(heads, [`${POST}Content-Length: 3\r\n\r\nabc`, get('/next')]);
  });

  test('is asked for by the sidecar where the client waits to be told', async (t) => {
    const received: string[] = [];
    const { client } = await startWorld(
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
    test(`gets the client a response that comes early, whole, though the app ${ending}`, async (t) => {
      const refusal = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno';
      const { app, client, owner } = await startWorld(t, responding(refusal));
      client.send(`${POST}Content-Length: 100000\r\n\r\n`);
      await client.until((text) => text === refusal);
      if (ending === 'ends') app.sockets[0]?.end();
      if (ending === 'resets') app.sockets[0]?.resetAndDestroy();
      if (ending !== 'stays') await eventually(() => owner().told.includes('finished'));
      client.socket.write(Buffer.alloc(100_000), () => undefined);
      if (ending === 'stays') await eventually(() => owner().told.includes('finished'));
      assert.equal(client.received(), refusal);
      assert.deepEqual(owner().told, ['flowing 413', 'finished']);
      // Nothing has told the client that this connection ends.
      client.send(get('/next'));
      await client.until((text) => text === refusal + refusal);
    });
  }
});

test('a client that leaves in the middle of its upload, with its whole response, has finished', async (t) => {
  const refusal = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno';
  for (const leave of ['end', 'destroy', 'resetAndDestroy'] as const) {
    const { client, owner } = await startWorld(t, responding(refusal));
    client.send(`${POST}Content-Length: 100000\r\n\r\n`);
    await client.until((text) => text === refusal);
    client.socket[leave]();
    await eventually(() => owner().told.length > 1);
    assert.deepEqual(owner().told, ['flowing 413', 'finished']);
  }
});

describe('another try', () => {
  /** Serves one request on each connection, and loses the next. */
  function losing(received: string[]): (socket: Socket, index: number) => void {
    return recordingApp(received, (socket, text) => {
      if (text.split('HTTP/1.1').length > 2) socket.end();
      else if (text.endsWith('\r\n\r\n') || text.endsWith('abc')) socket.write(OK);
    });
  }

  async function warm(world: World): Promise<void> {
    world.client.send(get('/warm'));
    await world.client.until((text) => text === OK);
    await cooled();
  }

  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
    test(`is made on a new connection if an idle one was just closing: ${method}`, async (t) => {
      const received: string[] = [];
      const world = await startWorld(t, losing(received));
      await warm(world);
      world.client.send(`${method} /again HTTP/1.1\r\nHost: a\r\n\r\n`);
      await eventually(() => received.length === 2);
      await eventually(() => world.owner(1).told.includes('finished'));
      assert.equal(world.app.sockets.length, 2);
      assert.ok(received[1]?.startsWith(`${method} /again `));
    });
  }

  for (const method of ['POST', 'PATCH', 'UNKNOWN']) {
    test(`is not made of what may not be done twice: ${method}`, async (t) => {
      const world = await startWorld(t, losing([]));
      await warm(world);
      world.client.send(`${method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc`);
      await world.client.until((text) => text.includes('HTTP/1.1 502'));
      assert.equal(world.app.sockets.length, 1);
      const { wasNotSent, wasReused } = world.owner(1).error ?? {};
      assert.deepEqual([wasNotSent, wasReused], [false, true]);
    });
  }

  test('is made once', async (t) => {
    let count = 0;
    const world = await startWorld(t, (socket) => {
      onHeads(socket, () => {
        count += 1;
        if (count === 1) socket.write(OK);
        else socket.end();
      });
    });
    await warm(world);
    world.client.send(get('/'));
    await world.client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual([count, world.app.sockets.length], [3, 2]);
  });

  test('is not made if the response has begun, or the connection was new', async (t) => {
    const { app, client, owner } = await startWorld(t, (socket) => {
      onHeads(socket, () => socket.end());
    });
    client.send(get('/'));
    await client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual([app.sockets.length, owner().told], [1, ['failed connection-lost']]);
  });

  for (const [name, body] of [
    ['without a body', ''],
    ['with a body that came with it', 'abc'],
  ] as const) {
    test(`is made of anything that was not sent: a POST ${name}`, async (t) => {
      const clock = createTestClock();
      const received: string[] = [];
      const respond = (socket: Socket): void => void socket.write(OK);
      const world = await startWorld(t, recordingApp(received, respond), { clock });
      await warm(world);
      await clock.advance(250);
      // It is with us now, unread.
      world.app.sockets[0]?.end();
      world.client.send(`${POST}Content-Length: ${body.length}\r\n\r\n${body}`);
      await world.client.until((text) => text === OK + OK);
      assert.deepEqual(received, [
        get('/warm'),
        `${POST}Content-Length: ${body.length}\r\n\r\n${body}`,
      ]);
    });
  }

  test('is made of a POST that was not sent, though more of its body has come meanwhile', async (t) => {
    const clock = createTestClock();
    const received: string[] = [];
    const respond = (socket: Socket, text: string): unknown =>
      /\r\n\r\n$|def$/.test(text) && socket.write(OK);
    const world = await startWorld(t, recordingApp(received, respond), { clock });
    await warm(world);
    await clock.advance(250);
    world.app.sockets[0]?.end();
    // The rest of the body comes within the turn in which the idle connection is looked at.
    const head = `${POST}Content-Length: 6\r\n\r\n`;
    const exchange = createExchange(t, head);
    exchange.deliver(Buffer.from('abc'));
    const owner = new Owner(exchange);
    createRelay(exchange, world.upstream, owner).start();
    exchange.deliver(Buffer.from('def'));
    exchange.deliverEnd();
    await eventually(() => owner.told.length === 2);
    assert.deepEqual(owner.told, ['flowing 200', 'finished']);
    assert.deepEqual(received, [get('/warm'), `${head}abcdef`]);
  });
});

describe('a switch of protocols', () => {
  const ASK = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
  const SWITCH =
    'HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

  test('joins both connections, from the first bytes behind the heads on', async (t) => {
    const received: string[] = [];
    const { app, client, owner } = await startWorld(
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
    await eventually(() => owner().told.includes('finished'));
    assert.deepEqual(owner().told, ['tunnel 101', 'finished']);
  });

  test('that is held back keeps what comes meanwhile, on either side', async (t) => {
    const committed = Promise.withResolvers<undefined>();
    const received: string[] = [];
    const { app, client } = await startWorld(
      t,
      recordingApp(received, (socket, text) => text === ASK && socket.write(SWITCH)),
      {
        prepare: (owner) => {
          owner.passageOf = ({ rawHeaders }) => committed.promise.then(() => ({ rawHeaders }));
        },
      },
    );
    client.send(ASK);
    await eventually(() => received[0] === ASK);
    await cooled();
    app.sockets[0]?.write('from the app');
    client.send('from the client');
    await cooled();
    assert.deepEqual([client.received(), received], ['', [ASK]]);
    committed.resolve(undefined);
    await client.until((text) => text === `${SWITCH}from the app`);
    await eventually(() => received[0] === `${ASK}from the client`);
  });

  test('of a client that has left while it was held back is closed', async (t) => {
    const committed = Promise.withResolvers<undefined>();
    const { app, client, owner } = await startWorld(t, responding(SWITCH), {
      prepare: (owner) => {
        owner.passageOf = ({ rawHeaders }) => committed.promise.then(() => ({ rawHeaders }));
      },
    });
    client.send(ASK);
    await eventually(() => (app.sockets[0]?.bytesRead ?? 0) > 0);
    await cooled();
    client.socket.resetAndDestroy();
    await eventually(() => owner().told.includes('gone'));
    committed.resolve(undefined);
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual(owner().told, ['gone']);
  });

  for (const [how, leave] of [
    ['reset', (socket: Socket) => void socket.resetAndDestroy()],
    ['close', (socket: Socket) => void socket.destroy()],
  ] as const) {
    test(`ends for the app when the client leaves by a ${how}`, async (t) => {
      const { app, client, owner } = await startWorld(t, responding(SWITCH));
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      leave(client.socket);
      const [first] = app.sockets;
      await eventually(() => isOver(first));
      first?.end();
      await eventually(() => owner().told.includes('finished'));
    });
  }

  for (const how of ['resetAndDestroy', 'destroy', 'end'] as const) {
    test(`ends for the client when the app leaves by ${how}, and is over then`, async (t) => {
      const { app, client, owner, server, upstream } = await startWorld(t, responding(SWITCH));
      client.send(ASK);
      await client.until((text) => text === SWITCH);
      app.sockets[0]?.[how]();
      await client.untilClosed();
      await eventually(() => owner().told.includes('finished'));
      assert.deepEqual(owner().told, ['tunnel 101', 'finished']);
      await eventually(() => upstream.pool.connectionCount === 0);
      assert.deepEqual([server.listener.busyCount(), server.sweep.size], [0, 0]);
    });
  }
});

describe('a relay', () => {
  test('that fails for another reason ends its call, but not behind the head of a response', async (t) => {
    const first = await startWorld(t, (socket) => transcript(socket));
    first.client.send(get('/'));
    await eventually(() => first.app.sockets.length === 1);
    first.relay().fail('peer-unresponsive', 'no');
    await first.client.until((text) => text.includes('HTTP/1.1 502'));
    assert.deepEqual(first.owner().told, ['failed peer-unresponsive']);
    await eventually(() => first.upstream.pool.connectionCount === 0);

    const second = await startWorld(t, responding(`${CHUNKED}1\r\na\r\n`));
    second.client.send(get('/'));
    await second.client.until((text) => text.endsWith('a\r\n'));
    second.relay().fail('peer-unresponsive', 'too late');
    second.app.sockets[0]?.write('0\r\n\r\n');
    await second.client.until((text) => text.endsWith('0\r\n\r\n'));
    assert.deepEqual(second.owner().told, ['flowing 200 stream', 'finished']);
  });

  test('is over for its app as soon as the client leaves', async (t) => {
    const { app, client, owner } = await startWorld(t, (socket) => transcript(socket));
    client.send(get('/'));
    await eventually(() => app.sockets.length === 1 && (app.sockets[0]?.bytesRead ?? 0) > 0);
    client.socket.resetAndDestroy();
    await eventually(() => isOver(app.sockets[0]));
    assert.deepEqual(owner().told, ['gone']);
  });

  for (const [name, response] of [
    ['head', OK],
    ['switch', 'HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'],
  ] as const) {
    test(`whose owner throws at a ${name} ends both connections, and no other`, async (t) => {
      const faults: unknown[] = [];
      const unexpected = new Error('unexpected');
      const { app, client, owner, server } = await startWorld(t, responding(response), {
        prepare: (owner) => {
          owner.passageOf = () => {
            throw unexpected;
          };
        },
        onFault: (error) => faults.push(error),
      });
      const other = await server.connect();
      client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      assert.equal(await client.untilClosed(), '');
      await eventually(() => isOver(app.sockets[0]));
      assert.deepEqual([faults, owner().told], [[unexpected], ['fault']]);
      assert.equal(other.socket.destroyed, false);
    });
  }
});
