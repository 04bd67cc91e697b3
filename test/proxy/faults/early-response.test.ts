/**
 * Fault 6: a response that the app sent before it had read the upload became a 502. It reaches the
 * client, whatever the app and the client do with their connections.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openFleet } from '../../support/fleet.ts';
import { openClient, type RawClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { serve, startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  chunk,
  get,
  readResponses,
  requestText,
  summaryOf,
  untilResponses,
} from './support.ts';

/** Enough tries to hit a race. */
const TRIES = 20;
/** A body that arrives with its head, and one larger than the socket buffers but within the discard limit of the sidecar. */
const [SMALL, LARGE] = [20_000, 4_000_000];

const EARLY = '413 too large';
const FINE = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine';
const CLOSE = 'Connection: close\r\n';

const responseText = (fields: string): string =>
  `HTTP/1.1 413 Content Too Large\r\n${fields}Content-Length: 9\r\n\r\ntoo large`;

/** Responds to each upload as soon as its head has arrived, and serves `GET`. */
interface EarlyApp {
  readonly name: string;
  readonly serve: (t: TestContext) => Promise<number>;
}

/** `respond` writes the response and then closes or keeps the connection. */
function rawApp(name: string, respond: (socket: Socket) => void): EarlyApp {
  const serveIt = (t: TestContext): Promise<number> => {
    const tails = new WeakMap<Socket, string>();
    return serveRawApp(t, (socket, packet) => {
      const text = (tails.get(socket) ?? '') + packet;
      let restAt = 0;
      for (let at = text.indexOf(LINE_END); at >= 0; at = text.indexOf(LINE_END, restAt)) {
        restAt = at + LINE_END.length;
        if (text.slice(0, at).endsWith('GET')) socket.write(FINE);
        else respond(socket);
      }
      tails.set(socket, text.slice(Math.max(restAt, text.length - REQUEST_LINE_BYTES)));
    });
  };
  return { name, serve: serveIt };
}

/** A request line may follow the rest of an upload, and may be split over two packets. */
const LINE_END = ' / HTTP/1.1\r\n';
const REQUEST_LINE_BYTES = 'POST'.length + LINE_END.length;

/** node:http discards the rest of a body that its app did not read, unless it closes the connection. */
function nodeApp(name: string, fields: Record<string, string>): EarlyApp {
  const serveIt = (t: TestContext): Promise<number> => {
    const server = createServer((req, res) => {
      if (req.method === 'GET') res.end('fine');
      else res.writeHead(413, { 'content-length': 9, ...fields }).end('too large');
    });
    // Without this, node:http sends 100 Continue.
    server.on('checkContinue', (req, res) => server.emit('request', req, res));
    return serve(t, server);
  };
  return { name, serve: serveIt };
}

const APPS: readonly EarlyApp[] = [
  rawApp('that stops reading and closes', (socket) => {
    socket.pause().end(responseText(CLOSE), () => socket.destroy());
  }),
  rawApp('that closes without Connection: close', (socket) => {
    socket.pause().end(responseText(''), () => socket.destroy());
  }),
  rawApp('that resets the connection', (socket) => {
    socket.pause().write(responseText(CLOSE), () => socket.resetAndDestroy());
  }),
  rawApp('that half-closes and keeps reading', (socket) => {
    socket.end(responseText(CLOSE));
  }),
  rawApp('that stops reading and does not close', (socket) => {
    socket.pause().write(responseText(CLOSE));
  }),
  rawApp('that keeps reading and keeps the connection', (socket) => {
    socket.write(responseText(''));
  }),
  nodeApp('on node:http with Connection: close', { connection: 'close' }),
  nodeApp('on node:http with keep-alive', {}),
];

interface Framing {
  readonly field: (size: number) => string;
  /** The body, in pieces. */
  readonly body: (size: number) => string[];
}

const PIECE = 65_536;

function piecesOf(size: number): string[] {
  const count = Math.ceil(size / PIECE);
  return Array.from({ length: count }, (_, i) => 'x'.repeat(Math.min(PIECE, size - i * PIECE)));
}

const FRAMINGS: readonly Framing[] = [
  { field: (size) => `Content-Length: ${size}`, body: piecesOf },
  {
    field: () => 'Transfer-Encoding: chunked',
    body: (size) => [...piecesOf(size).map(chunk), '0\r\n\r\n'],
  },
];
const [WITH_LENGTH = assert.fail(), IN_CHUNKS = assert.fail()] = FRAMINGS;

/** As bytes, so that long strings are not encoded for every try. */
interface Upload {
  readonly head: Buffer;
  readonly pieces: readonly Buffer[];
  /** Head and body. */
  readonly whole: Buffer;
}

function uploadOf({ field, body }: Framing, size: number, ...fields: string[]): Upload {
  const head = Buffer.from(requestText('POST', '/', field(size), ...fields), 'latin1');
  const pieces = body(size).map((piece) => Buffer.from(piece, 'latin1'));
  return { head, pieces, whole: Buffer.concat([head, ...pieces]) };
}

/** How a client sends an upload. */
type Send = (client: RawClient, upload: Upload) => Promise<void>;

const atOnce: Send = async ({ socket }, { whole }) => {
  socket.write(whole);
  await nextTurn();
};

const pieceByPiece: Send = async ({ socket }, { head, pieces }) => {
  for (const piece of [head, ...pieces]) {
    socket.write(piece);
    await nextTurn();
  }
};

/** Reads nothing until all is sent. */
const readingLast: Send = async ({ socket }, { whole }) => {
  socket.pause();
  await new Promise((resolve) => socket.write(whole, resolve));
  socket.resume();
};

/** Sends its body only after 100 Continue. */
const expecting: Send = async (client, { head, pieces }) => {
  client.socket.write(head);
  const text = await client.until((received) => received.includes('\r\n\r\n'));
  if (text.startsWith('HTTP/1.1 100 ')) for (const piece of pieces) client.socket.write(piece);
};

/** Sends an upload. Returns the response in one line, or `no response`. */
async function upload(t: TestContext, port: number, send: Send, given: Upload): Promise<string> {
  const client = await openClient(t, port);
  // The client keeps sending after the sidecar half-closes.
  client.socket.allowHalfOpen = true;
  const hasResponse = (text: string): boolean => readResponses(text).responses.length > 0;
  const responded = client.until(hasResponse).then(
    (text) => readResponses(text).responses.map(summaryOf).join(),
    () => 'no response',
  );
  await send(client, given).catch(() => undefined);
  const outcome = await responded;
  client.socket.destroy();
  return outcome;
}

/** How often each outcome occurred. */
function countsOf(outcomes: readonly string[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Uploads repeatedly, alternating between the framings, and expects the early response every time. */
async function assertAlwaysEarly(
  t: TestContext,
  port: number,
  send: Send,
  uploads: readonly Upload[],
): Promise<void> {
  const outcomes: string[] = [];
  for (let i = 0; i < TRIES; i += 1) {
    outcomes.push(await upload(t, port, send, uploads[i % uploads.length] ?? assert.fail()));
  }
  assert.deepEqual(countsOf(outcomes), { [EARLY]: TRIES });
}

async function assertServes(t: TestContext, port: number): Promise<void> {
  const client = await openClient(t, port);
  client.send(get('/'));
  const [response] = await untilResponses(client, 1);
  assert.equal(response && summaryOf(response), '200 fine');
}

describe('the early response to an upload', () => {
  for (const size of [SMALL, LARGE]) {
    const uploads = FRAMINGS.map((framing) => uploadOf(framing, size));
    for (const app of APPS) {
      test(`of ${size} bytes reaches the client: of an app ${app.name}`, BOUNDED, async (t) => {
        const { ports } = await startTestSidecar(t, await app.serve(t));
        await assertAlwaysEarly(t, ports.public, atOnce, uploads);
        await assertServes(t, ports.public);
      });
    }
  }
});

describe('the early response reaches a client', () => {
  for (const [how, send, fields] of [
    ['that sends piece by piece', pieceByPiece, []],
    ['that reads only after it has sent everything', readingLast, []],
    ['that waits for 100 Continue', expecting, ['Expect: 100-continue']],
  ] as const) {
    const uploads = FRAMINGS.map((framing) => uploadOf(framing, LARGE, ...fields));
    for (const app of APPS) {
      test(`${how}: of an app ${app.name}`, BOUNDED, async (t) => {
        const { ports } = await startTestSidecar(t, await app.serve(t));
        await assertAlwaysEarly(t, ports.public, send, uploads);
        await assertServes(t, ports.public);
      });
    }
  }

  for (const app of APPS) {
    test(`whose upload is forwarded: to an app ${app.name}`, BOUNDED, async (t) => {
      const fleet = await openFleet(t, 'm1', 'm2');
      await fleet.start('m1', await app.serve(t));
      const m2 = await fleet.start('m2', await serveRawApp(t, () => assert.fail('not for m2')));
      const uploads = [uploadOf(IN_CHUNKS, LARGE, 'Mcp-Session-Id: abc~m1')];
      await assertAlwaysEarly(t, m2.sidecar.ports.public, atOnce, uploads);
    });
  }
});

describe('after an early response', () => {
  test(
    'the next request of the connection is served after the upload has ended',
    BOUNDED,
    async (t) => {
      const app = nodeApp('', {});
      const { ports } = await startTestSidecar(t, await app.serve(t));
      for (const framing of FRAMINGS) {
        const client = await openClient(t, ports.public);
        const { head, pieces } = uploadOf(framing, LARGE);
        const [first = assert.fail(), ...others] = pieces;
        client.socket.write(Buffer.concat([head, first]));
        await untilResponses(client, 1);
        client.socket.write(Buffer.concat([...others, Buffer.from(get('/'))]));
        const responses = await untilResponses(client, 2);
        assert.deepEqual(responses.map(summaryOf), [EARLY, '200 fine']);
      }
    },
  );

  test(
    'the connection to the app is not reused if the upload is incomplete',
    BOUNDED,
    async (t) => {
      const received = new Map<Socket, string>();
      const app = await serveRawApp(t, (socket, packet) => {
        received.set(socket, (received.get(socket) ?? '') + packet);
        if (packet.startsWith('GET ')) socket.write(FINE);
        if (packet.startsWith('POST ')) socket.write(responseText(''));
      });
      const { ports } = await startTestSidecar(t, app);
      const client = await openClient(t, ports.public);
      client.send(`${uploadOf(WITH_LENGTH, LARGE).head.toString()}abc`);
      await untilResponses(client, 1);
      client.socket.destroy();
      await assertServes(t, ports.public);
      for (const text of received.values()) assert.equal(text.match(/ HTTP\/1\.1\r\n/g)?.length, 1);
    },
  );
});
