/**
 * The state machine of a connection to the app: it is reused only if the request was sent, the response
 * is complete and no other bytes were received.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  BOUNDED,
  get,
  post,
  summaryOf,
  untilArrived,
  untilResponses,
  UPGRADE_FIELDS,
  type Ports,
} from './support.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const NEXT = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext';
const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';

interface Setup {
  readonly sidecar: { readonly ports: Ports };
  /** For each connection to the app, the targets that it received. */
  readonly targets: () => readonly (readonly string[])[];
}

/** An app that responds to `/next` correctly, and to everything else with `respond`. */
async function setUp(t: TestContext, respond: (socket: Socket) => void): Promise<Setup> {
  const connections = new Map<Socket, string[]>();
  const app = await serveRawApp(t, (socket, packet) => {
    const targets = connections.get(socket) ?? [];
    connections.set(socket, targets);
    const found = [...packet.matchAll(/^[A-Z]+ (\S+) HTTP\/1\.1\r$/gm)].map(([, target]) => target);
    targets.push(...found.map(String));
    if (found.includes('/next')) socket.write(NEXT);
    else if (found.length > 0) respond(socket);
  });
  return { sidecar: await startTestSidecar(t, app), targets: () => [...connections.values()] };
}

/** Sends one request with Connection: close, and returns the response. */
async function send(t: TestContext, { sidecar }: Setup, text: string): Promise<string> {
  const client = await openClient(t, sidecar.ports.public);
  client.send(text);
  return client.untilClosed();
}

const FIRST = get('/first', 'Connection: close');

/** Asserts that the next client gets its own response, over a new connection to the app. */
async function assertNextIsClean(t: TestContext, setup: Setup): Promise<void> {
  await untilArrived(setup.sidecar);
  const received = await send(t, setup, get('/next', 'Connection: close'));
  assert.match(received, /\r\n\r\nnext$/);
  assert.deepEqual(setup.targets(), [['/first'], ['/next']]);
}

describe('a connection to the app', () => {
  test('is reused for one request after another', BOUNDED, async (t) => {
    const setup = await setUp(t, (socket) => socket.write(OK));
    for (let i = 0; i < 3; i += 1) assert.match(await send(t, setup, FIRST), /\r\n\r\nok$/);
    assert.deepEqual(setup.targets(), [['/first', '/first', '/first']]);
  });

  for (const [name, response] of [
    ['that has sent a second response at once', OK + POISON],
    ['that has sent more than the length', `${OK}more`],
    [
      'that has sent more than its chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore',
    ],
    ['that has sent a body to a 204', `HTTP/1.1 204 No Content\r\n\r\n${POISON}`],
    ['that has sent a body to a 304', `HTTP/1.1 304 Not Modified\r\n\r\n${POISON}`],
    ['that sent Connection: close', OK.replace('\r\n', '\r\nConnection: close\r\n')],
    ['of HTTP/1.0', OK.replace('1.1', '1.0')],
  ] as const) {
    test(`${name} is not reused, and the extra bytes reach no client`, BOUNDED, async (t) => {
      const setup = await setUp(t, (socket) => socket.write(response));
      const received = await send(t, setup, FIRST);
      assert.match(received, /^HTTP\/1\.1 (?:200|204|304) /);
      assert.doesNotMatch(received, /poison|more/);
      await assertNextIsClean(t, setup);
    });
  }

  test('that receives bytes while it is idle is not reused', BOUNDED, async (t) => {
    let first: Socket | undefined;
    const setup = await setUp(t, (socket) => {
      first = socket;
      socket.write(OK);
    });
    assert.match(await send(t, setup, FIRST), /\r\n\r\nok$/);
    first?.write(POISON);
    await assertNextIsClean(t, setup);
  });

  test('that the app closes while it is idle is not reused', BOUNDED, async (t) => {
    let first: Socket | undefined;
    const setup = await setUp(t, (socket) => {
      first = socket;
      socket.write(OK);
    });
    await send(t, setup, FIRST);
    first?.end();
    await assertNextIsClean(t, setup);
  });

  test(
    'whose client disconnected in the middle of the response is not reused',
    BOUNDED,
    async (t) => {
      const setup = await setUp(t, (socket) =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'),
      );
      const client = await openClient(t, setup.sidecar.ports.public);
      client.send(get('/first'));
      await client.until((text) => text.endsWith('hello'));
      client.socket.destroy();
      await assertNextIsClean(t, setup);
    },
  );
});

describe('a response', () => {
  test('that ends with its connection arrives complete', BOUNDED, async (t) => {
    const body = 'x'.repeat(100_000);
    const setup = await setUp(t, (socket) => socket.end(`HTTP/1.1 200 OK\r\n\r\n${body}`));
    const client = await openClient(t, setup.sidecar.ports.public);
    client.send(get('/first'));
    // In chunks, or until the connection closes: both are valid for an HTTP/1.1 client.
    const isWhole = (text: string): boolean => text.endsWith('0\r\n\r\n');
    const received = await client.until(isWhole).catch(() => client.received());
    assert.equal(received.match(/x/g)?.length, body.length);
  });

  test('arrives unchanged, for any split of the bytes', BOUNDED, async (t) => {
    const responses = [
      'HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n',
      'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    ];
    const setup = await setUp(t, (socket) => {
      socket.setNoDelay(true);
      writeEachByte(socket, responses.shift() ?? '');
    });
    const client = await openClient(t, setup.sidecar.ports.public);
    for (let count = 1; count <= 3; count += 1) {
      client.send(get('/first'));
      const all = await untilResponses(client, count);
      assert.equal(summaryOf(all.at(-1) ?? assert.fail()), '200 hello');
    }
  });

  for (const [name, head] of [
    ['with a length and a coding', 'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok'],
    ['with two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\nok'],
    ['with a length that is not a number', 'Content-Length: abc\r\n\r\nok'],
    ['with a coding that is not chunked', 'Transfer-Encoding: gzip\r\n\r\nok'],
    ['with a folded line', 'X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok'],
    ['with a bare LF', 'X-A: b\nContent-Length: 2\r\n\r\nok'],
    ['with a NUL', 'X-A: b\0\r\nContent-Length: 2\r\n\r\nok'],
  ] as const) {
    test(`${name} becomes a 502, and no part of it reaches the client`, BOUNDED, async (t) => {
      const setup = await setUp(t, (socket) => socket.write(`HTTP/1.1 200 OK\r\n${head}`));
      const received = await send(t, setup, FIRST);
      assert.match(received, /^HTTP\/1\.1 502 /);
      assert.doesNotMatch(received, /ok$/);
      await assertNextIsClean(t, setup);
    });
  }

  test(
    'that switches protocols without an upgrade request becomes a 502, and opens no tunnel',
    BOUNDED,
    async (t) => {
      const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket';
      const setup = await setUp(t, (socket) => socket.write(`${head}\r\n\r\n${POISON}`));
      const received = await send(t, setup, FIRST);
      assert.match(received, /^HTTP\/1\.1 502 /);
      await assertNextIsClean(t, setup);
    },
  );

  for (const rest of ['g\r\n', '2\r\nmore', '-1\r\n', '2\nok\r\n']) {
    test(`with ${JSON.stringify(rest)} as a chunk is aborted`, BOUNDED, async (t) => {
      let first: Socket | undefined;
      const setup = await setUp(t, (socket) => {
        first = socket;
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n');
      });
      const client = await openClient(t, setup.sidecar.ports.public);
      client.send(get('/first'));
      await client.until((text) => text.includes('ok'));
      first?.write(rest);
      assert.ok(!(await client.untilClosed()).endsWith('0\r\n\r\n'));
      await assertNextIsClean(t, setup);
    });
  }

  test(
    'that rejects an upgrade arrives complete, and the next request is served',
    BOUNDED,
    async (t) => {
      const setup = await setUp(t, (socket) =>
        socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you'),
      );
      const client = await openClient(t, setup.sidecar.ports.public);
      client.send(get('/first', ...UPGRADE_FIELDS));
      const [response] = await untilResponses(client, 1);
      assert.equal(response && summaryOf(response), '403 not you');
      assert.match(await send(t, setup, get('/next', 'Connection: close')), /\r\n\r\nnext$/);
    },
  );
});

/** Writes each byte on its own, in separate packets if the kernel allows it. */
function writeEachByte(socket: Socket, text: string): void {
  if (text === '') return;
  socket.write(text.slice(0, 1), 'latin1', () => writeEachByte(socket, text.slice(1)));
}

describe('a request on a connection that the app closes at the same moment', () => {
  /** Responds to the first request of a connection, and closes at the second without a byte. */
  async function serveOnce(t: TestContext): Promise<{ port: number; seen: string[] }> {
    const seen: string[] = [];
    const used = new WeakSet<Socket>();
    const port = await serveRawApp(t, (socket, packet) => {
      seen.push(packet.split(' ', 2).join(' '));
      if (used.has(socket)) socket.destroy();
      else socket.write(OK);
      used.add(socket);
    });
    return { port, seen };
  }

  test('is retried once if it is safe to retry', BOUNDED, async (t) => {
    const { port, seen } = await serveOnce(t);
    const { ports } = await startTestSidecar(t, port);
    const client = await openClient(t, ports.public);
    client.send(get('/1') + get('/2'));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 ok', '200 ok']);
    assert.deepEqual(seen, ['GET /1', 'GET /2', 'GET /2']);
  });

  test('returns 502 and is not retried if it is not safe', BOUNDED, async (t) => {
    const { port, seen } = await serveOnce(t);
    const { ports } = await startTestSidecar(t, port);
    const client = await openClient(t, ports.public);
    client.send(get('/1') + post('/2', 'body'));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [200, 502],
    );
    assert.deepEqual(seen, ['GET /1', 'POST /2']);
  });
});
