/**
 * Fault 3: bad bytes after a valid request replaced its response. A valid request gets its own
 * response first, and the bad bytes get an error response after it.
 */
import assert from 'node:assert/strict';
import type { RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { openClient, type RawClient } from '../../support/raw.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  chunk,
  echo,
  get,
  post,
  postInChunks,
  requestText,
  hasConnectionClose,
  serveRecordingApp,
  summaryOf,
  untilArrived,
  untilEnded,
  untilResponses,
  type Received,
  type RecordingApp,
} from './support.ts';

const SMUGGLED = get('/smuggled');

/** Bytes after a request that are not a valid request. */
const GARBAGE: readonly (readonly [name: string, text: string])[] = [
  ['bytes that are not HTTP', 'nonsense\r\n\r\n'],
  ['a TLS ClientHello', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'],
  ['a NUL', '\0'],
  ['a body that is longer than its Content-Length', 'more\r\n\r\n'],
  ['a folded line', get('/bad', 'X-A: b', ' c')],
  ['a space before the colon', get('/bad', 'X-A : b')],
  ['a bare LF', 'GET /bad HTTP/1.1\nHost: a\n\n'],
  ['two Host lines', get('/bad', 'Host: b')],
  ['a fragment in the target', get('/bad#f')],
  ['two lengths', requestText('POST', '/bad', 'Content-Length: 0', 'Content-Length: 0')],
  ['a head that is too large', get('/bad', `X-A: ${'b'.repeat(70_000)}`)],
];

interface Setup {
  readonly app: RecordingApp;
  readonly client: RawClient;
  /** Connects another client. */
  readonly another: () => Promise<RawClient>;
  /** Lets the app respond to `/slow`. */
  readonly release: () => void;
  /** Resolves when all data in flight has arrived. */
  readonly untilQuiet: () => Promise<void>;
}

/** The app holds `/slow`, and the second half of `/stream`, until `release`. It echoes other requests. */
async function setUp(t: TestContext): Promise<Setup> {
  const released = Promise.withResolvers<undefined>();
  const listener: RequestListener = (req, res) => {
    if (req.url === '/stream') res.write('first ');
    if (req.url === '/slow') void released.promise.then(() => echo(req, res));
    else if (req.url === '/stream') void released.promise.then(() => res.end('second'));
    else echo(req, res);
  };
  const app = await serveRecordingApp(t, listener);
  const sidecar = await startTestSidecar(t, app.port);
  const another = (): Promise<RawClient> => openClient(t, sidecar.ports.public);
  return {
    app,
    client: await another(),
    another,
    release: () => released.resolve(undefined),
    untilQuiet: () => untilArrived(sidecar),
  };
}

/** One response of the app, then one error response, which ends the connection. */
function assertServedThenRejected({ responses, rest }: Received, served: string): void {
  const [first, second] = responses;
  assert.deepEqual([first && summaryOf(first), responses.length, rest], [served, 2, '']);
  assert.ok(second && second.status >= 400 && second.status < 500);
  assert.ok(hasConnectionClose(second), 'the response has Connection: close');
}

describe('a request followed by bad bytes gets its own response, and then an error response follows:', () => {
  for (const [name, garbage] of GARBAGE) {
    test(name, BOUNDED, async (t) => {
      const { app, client, untilQuiet } = await setUp(t);
      client.send(get('/good') + garbage + SMUGGLED);
      assertServedThenRejected(await untilEnded(client), '200 GET /good');
      await untilQuiet();
      assert.deepEqual(app.seen, ['GET /good']);
    });

    test(`${name}, with a slow response and the bytes already received`, BOUNDED, async (t) => {
      const { app, client, release, untilQuiet } = await setUp(t);
      client.send(get('/slow') + garbage + SMUGGLED);
      await untilQuiet();
      assert.equal(client.received(), '');
      release();
      assertServedThenRejected(await untilEnded(client), '200 GET /slow');
      await untilQuiet();
      assert.deepEqual(app.seen, ['GET /slow']);
    });
  }

  test('in the middle of a streamed response', BOUNDED, async (t) => {
    const { client, release, untilQuiet } = await setUp(t);
    client.send(get('/stream'));
    await client.until((text) => text.includes('first '));
    client.send(`nonsense\r\n\r\n${SMUGGLED}`);
    await untilQuiet();
    release();
    assertServedThenRejected(await untilEnded(client), '200 first second');
  });

  test('after ten requests, each of which gets its own response', BOUNDED, async (t) => {
    const { app, client } = await setUp(t);
    const targets = Array.from({ length: 10 }, (_, i) => `/${i}`);
    client.send(`${targets.map((target) => get(target)).join('')}nonsense\r\n\r\n`);
    const { responses } = await untilEnded(client);
    const expected = targets.map((target) => `GET ${target}`);
    assert.deepEqual(
      responses.map(summaryOf).slice(0, 10),
      expected.map((line) => `200 ${line}`),
    );
    assert.deepEqual([responses[10]?.status, responses.length], [400, 11]);
    assert.deepEqual(app.seen, expected);
  });
});

describe('a complete upload gets the response of the app, whatever follows it:', () => {
  for (const [name, upload] of [
    ['with a length', post],
    ['in chunks', postInChunks],
  ] as const) {
    for (const [behind, garbage] of [
      ['bytes that are not HTTP', 'nonsense\r\n\r\n'],
      ['two line ends too many, and then such bytes', '\r\n\r\nnonsense\r\n\r\n'],
      ['a second last chunk', '0\r\n\r\n'],
    ] as const) {
      test(`${name}, before ${behind}`, BOUNDED, async (t) => {
        const { app, client } = await setUp(t);
        client.send(upload('/good', 'hello') + garbage + SMUGGLED);
        assertServedThenRejected(await untilEnded(client), '200 POST /good hello');
        assert.deepEqual(app.seen, ['POST /good']);
      });
    }

    test(`${name}, with a slow app`, BOUNDED, async (t) => {
      const { client, release, untilQuiet } = await setUp(t);
      client.send(`${upload('/slow', 'hello')}nonsense\r\n\r\n`);
      await untilQuiet();
      release();
      assertServedThenRejected(await untilEnded(client), '200 POST /slow hello');
    });
  }

  test('and a next upload with invalid chunks gets the error response', BOUNDED, async (t) => {
    const { app, client, untilQuiet } = await setUp(t);
    const broken = `${requestText('POST', '/bad', 'Transfer-Encoding: chunked')}${chunk('abc')}g\r\n`;
    client.send(post('/good', 'hello') + broken + SMUGGLED);
    assertServedThenRejected(await untilEnded(client), '200 POST /good hello');
    await untilQuiet();
    assert.ok(!app.seen.includes('GET /smuggled'));
  });
});

describe('a request with Connection: close is the last of its connection:', () => {
  const rows: readonly (readonly [name: string, text: string, served: string])[] = [
    ['a GET', get('/good', 'Connection: close'), '200 GET /good'],
    ['a GET of HTTP/1.0', 'GET /good HTTP/1.0\r\nHost: a\r\n\r\n', '200 GET /good'],
    ['a POST', post('/good', 'hello', 'Connection: close'), '200 POST /good hello'],
    [
      'a POST in chunks',
      postInChunks('/good', 'hello', 'Connection: close'),
      '200 POST /good hello',
    ],
    ['close in a list', get('/good', 'Connection: x-a, Close'), '200 GET /good'],
  ];
  for (const [name, text, served] of rows) {
    for (const [behind, more] of [
      ['a request', SMUGGLED],
      ['an upload', post('/smuggled', 'body')],
      ['bad bytes', 'nonsense\r\n\r\n'],
    ] as const) {
      test(
        `${name} gets its response, and the app receives nothing after it: ${behind}`,
        BOUNDED,
        async (t) => {
          const { app, client, untilQuiet } = await setUp(t);
          client.send(text + more);
          const received = await client.untilClosed();
          const body = received.slice(received.indexOf('\r\n\r\n') + 4);
          assert.match(received, /^HTTP\/1\.[01] 200 /);
          assert.equal(body.replace(/^[0-9a-f]+\r\n(.*)\r\n0\r\n\r\n$/, '$1'), served.slice(4));
          await untilQuiet();
          assert.equal(app.seen.join(), served.slice(4).replace(' hello', ''));
        },
      );
    }
  }

  test(
    'a slow one too: the app does not receive a request that has already arrived',
    BOUNDED,
    async (t) => {
      const { app, client, release, untilQuiet } = await setUp(t);
      client.send(get('/slow', 'Connection: close') + SMUGGLED);
      await untilQuiet();
      release();
      const { responses } = await untilEnded(client);
      assert.deepEqual(responses.map(summaryOf), ['200 GET /slow']);
      await untilQuiet();
      assert.deepEqual(app.seen, ['GET /slow']);
    },
  );
});

test('other connections stay open', BOUNDED, async (t) => {
  const { client, another, release } = await setUp(t);
  client.send(get('/slow'));
  const other = await another();
  other.send(`${get('/good')}nonsense\r\n\r\n`);
  await untilEnded(other);
  release();
  const [response] = await untilResponses(client, 1);
  assert.equal(response && summaryOf(response), '200 GET /slow');
});
