/**
 * The connection to the app, as the engine's state machine has it: it is used again only when the
 * request was sent, the response is complete and nothing else has come.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  get,
  openClient,
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

interface Scene {
  readonly sidecar: { readonly ports: Ports };
  /** For each connection that was made to the app, the targets that came on it. */
  readonly targets: () => readonly (readonly string[])[];
}

/** An app that responds to `/next` correctly, and to everything else with `respond`. */
async function setUp(t: TestContext, respond: (socket: Socket) => void): Promise<Scene> {
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

/** One request, which ends its connection. */
async function ask(t: TestContext, { sidecar }: Scene, text: string): Promise<string> {
  const client = await openClient(t, sidecar.ports.public);
  client.send(text);
  return client.untilClosed();
}

const FIRST = get('/first', 'Connection: close');

/** What the next client gets, and that it gets it on a connection of its own. */
async function assertNextIsClean(t: TestContext, scene: Scene): Promise<void> {
  await untilArrived(scene.sidecar);
  const received = await ask(t, scene, get('/next', 'Connection: close'));
  assert.match(received, /\r\n\r\nnext$/);
  assert.deepEqual(scene.targets(), [['/first'], ['/next']]);
}

describe('a connection to the app', () => {
  test('is used for one request after another', BOUNDED, async (t) => {
    const scene = await setUp(t, (socket) => socket.write(OK));
    for (let i = 0; i < 3; i += 1) assert.match(await ask(t, scene, FIRST), /\r\n\r\nok$/);
    assert.deepEqual(scene.targets(), [['/first', '/first', '/first']]);
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
    ['that says close', OK.replace('\r\n', '\r\nConnection: close\r\n')],
    ['of HTTP/1.0', OK.replace('1.1', '1.0')],
  ] as const) {
    test(`${name} is not used again, and what is left over reaches nobody`, BOUNDED, async (t) => {
      const scene = await setUp(t, (socket) => socket.write(response));
      const received = await ask(t, scene, FIRST);
      assert.match(received, /^HTTP\/1\.1 (?:200|204|304) /);
      assert.doesNotMatch(received, /poison|more/);
      await assertNextIsClean(t, scene);
    });
  }

  test('on which bytes come that nobody has asked for is not used again', BOUNDED, async (t) => {
    let first: Socket | undefined;
    const scene = await setUp(t, (socket) => {
      first = socket;
      socket.write(OK);
    });
    assert.match(await ask(t, scene, FIRST), /\r\n\r\nok$/);
    first?.write(POISON);
    await assertNextIsClean(t, scene);
  });

  test('that the app closes when it is idle is not used again', BOUNDED, async (t) => {
    let first: Socket | undefined;
    const scene = await setUp(t, (socket) => {
      first = socket;
      socket.write(OK);
    });
    await ask(t, scene, FIRST);
    first?.end();
    await assertNextIsClean(t, scene);
  });

  test(
    'whose client has left in the middle of the response is not used again',
    BOUNDED,
    async (t) => {
      const scene = await setUp(t, (socket) =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'),
      );
      const client = await openClient(t, scene.sidecar.ports.public);
      client.send(get('/first'));
      await client.until((text) => text.endsWith('hello'));
      client.socket.destroy();
      await assertNextIsClean(t, scene);
    },
  );
});

describe('a response', () => {
  test('that ends with its connection arrives whole, and ends', BOUNDED, async (t) => {
    const body = 'x'.repeat(100_000);
    const scene = await setUp(t, (socket) => socket.end(`HTTP/1.1 200 OK\r\n\r\n${body}`));
    const client = await openClient(t, scene.sidecar.ports.public);
    client.send(get('/first'));
    // In chunks, or with the end of the connection: either is a response to a client of HTTP/1.1.
    const isWhole = (text: string): boolean => text.endsWith('0\r\n\r\n');
    const received = await client.until(isWhole).catch(() => client.received());
    assert.equal(received.match(/x/g)?.length, body.length);
  });

  test('arrives as it is, whatever the bytes come in', BOUNDED, async (t) => {
    const responses = [
      'HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n',
      'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    ];
    const scene = await setUp(t, (socket) => {
      socket.setNoDelay(true);
      writeEachByte(socket, responses.shift() ?? '');
    });
    const client = await openClient(t, scene.sidecar.ports.public);
    for (let count = 1; count <= 3; count += 1) {
      client.send(get('/first'));
      const all = await untilResponses(client, count);
      assert.equal(summaryOf(all.at(-1) ?? assert.fail()), '200 hello');
    }
  });

  for (const [name, head] of [
    ['with a length and a coding', 'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok'],
    ['with two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\nok'],
    ['with a length that is none', 'Content-Length: abc\r\n\r\nok'],
    ['with a coding that is not chunked', 'Transfer-Encoding: gzip\r\n\r\nok'],
    ['with a folded line', 'X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok'],
    ['with a bare LF', 'X-A: b\nContent-Length: 2\r\n\r\nok'],
    ['with a NUL', 'X-A: b\0\r\nContent-Length: 2\r\n\r\nok'],
  ] as const) {
    test(`${name} is a 502, and nothing of it reaches the client`, BOUNDED, async (t) => {
      const scene = await setUp(t, (socket) => socket.write(`HTTP/1.1 200 OK\r\n${head}`));
      const received = await ask(t, scene, FIRST);
      assert.match(received, /^HTTP\/1\.1 502 /);
      assert.doesNotMatch(received, /ok$/);
      await assertNextIsClean(t, scene);
    });
  }

  test('that switches protocols unasked is a 502, and opens no tunnel', BOUNDED, async (t) => {
    const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket';
    const scene = await setUp(t, (socket) => socket.write(`${head}\r\n\r\n${POISON}`));
    const received = await ask(t, scene, FIRST);
    assert.match(received, /^HTTP\/1\.1 502 /);
    await assertNextIsClean(t, scene);
  });

  for (const rest of ['g\r\n', '2\r\nmore', '-1\r\n', '2\nok\r\n']) {
    test(`that goes on with ${JSON.stringify(rest)} for a chunk breaks off`, BOUNDED, async (t) => {
      let first: Socket | undefined;
      const scene = await setUp(t, (socket) => {
        first = socket;
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n');
      });
      const client = await openClient(t, scene.sidecar.ports.public);
      client.send(get('/first'));
      await client.until((text) => text.includes('ok'));
      first?.write(rest);
      assert.ok(!(await client.untilClosed()).endsWith('0\r\n\r\n'));
      await assertNextIsClean(t, scene);
    });
  }

  test(
    'that refuses an upgrade arrives whole, and the next request is in step',
    BOUNDED,
    async (t) => {
      const scene = await setUp(t, (socket) =>
        socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you'),
      );
      const client = await openClient(t, scene.sidecar.ports.public);
      client.send(get('/first', ...UPGRADE_FIELDS));
      const [response] = await untilResponses(client, 1);
      assert.equal(response && summaryOf(response), '403 not you');
      assert.match(await ask(t, scene, get('/next', 'Connection: close')), /\r\n\r\nnext$/);
    },
  );
});

/** One after another, each in a packet of its own as far as the kernel lets it. */
function writeEachByte(socket: Socket, text: string): void {
  if (text === '') return;
  socket.write(text.slice(0, 1), 'latin1', () => writeEachByte(socket, text.slice(1)));
}

describe('a request that meets a connection which the app is just closing', () => {
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

  test('is sent once more if it may be repeated', BOUNDED, async (t) => {
    const { port, seen } = await serveOnce(t);
    const { ports } = await startTestSidecar(t, port);
    const client = await openClient(t, ports.public);
    client.send(get('/1') + get('/2'));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 ok', '200 ok']);
    assert.deepEqual(seen, ['GET /1', 'GET /2', 'GET /2']);
  });

  test('is a 502 if it may not, and is not sent again', BOUNDED, async (t) => {
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
