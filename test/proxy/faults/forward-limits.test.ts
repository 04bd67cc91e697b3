/**
 * Fault 7: a forward had other limits than a local request, and a request that the app had executed got
 * a 503 with Retry-After. A client sees no difference, and never gets Retry-After for an unsafe request
 * that was delivered.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { openFleet, type TestFleet } from '../../support/fleet.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  BOUNDED,
  get,
  post,
  postInChunks,
  requestText,
  hasConnectionClose,
  untilResponses,
  type Ports,
  type ReceivedResponse,
} from './support.ts';

/** No body is replayed, so that each request with a body is forwarded. */
const FORWARD_ALL = { REPLAY_MAX_BODY_BYTES: '0' };
/** A session of m1. */
const SESSION = 'Mcp-Session-Id: abc~m1';

interface Paths {
  readonly fleet: TestFleet;
  /** Sends to the sidecar next to the app. */
  readonly local: (text: string) => Promise<ReceivedResponse>;
  /** Sends to the sidecar of another Machine. */
  readonly forwarded: (text: string) => Promise<ReceivedResponse>;
}

async function openPaths(t: TestContext, appPort: number): Promise<Paths> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const m1 = await fleet.start('m1', appPort, FORWARD_ALL);
  const m2App = await serveRawApp(t, () => assert.fail('no request is for the app of m2'));
  const m2 = await fleet.start('m2', m2App, FORWARD_ALL);
  const to =
    ({ ports }: { readonly ports: Ports }) =>
    async (text: string): Promise<ReceivedResponse> => {
      const client = await openClient(t, ports.public);
      client.send(text);
      const [response] = await untilResponses(client, 1);
      client.socket.destroy();
      return response ?? assert.fail();
    };
  return { fleet, local: to(m1.sidecar), forwarded: to(m2.sidecar) };
}

const isWhole = (text: string): boolean => text.endsWith('hello') || text.endsWith('0\r\n\r\n');

/** Calls `respond` with each complete request. All requests end with `hello` or with a last chunk. */
function serveCalls(
  t: TestContext,
  respond: (socket: Socket, request: string) => void,
): Promise<number> {
  const received = new WeakMap<Socket, string>();
  return serveRawApp(t, (socket, packet) => {
    const text = (received.get(socket) ?? '') + packet;
    received.set(socket, isWhole(text) ? '' : text);
    if (isWhole(text)) respond(socket, text);
  });
}

const response = (...lines: string[]): string =>
  `HTTP/1.1 200 OK\r\n${[...lines, 'Content-Length: 2'].join('\r\n')}\r\n\r\nok`;

/** Fields with `bytes` bytes in total, in lines of usual length. */
function fieldsOf(bytes: number): string[] {
  const each = 4_000;
  const count = Math.ceil(bytes / each);
  return Array.from({ length: count }, (_, i) => {
    const name = `X-${i}: `;
    const length = Math.min(each, bytes - i * each) - name.length - 2;
    return name + 'x'.repeat(Math.max(length, 0));
  });
}

/** The end-to-end parts of a response, which must be the same on both paths. */
function endToEndParts({ status, fields, body }: ReceivedResponse): unknown {
  const endToEnd = [...fields].filter(([name]) => !HOP_BY_HOP.has(name));
  return { status, body, fields: endToEnd.map(([name, value]) => shortened(`${name}: ${value}`)) };
}

/** Keeps a diff readable. */
const shortened = (line: string): string =>
  line.length > 100 ? `${line.slice(0, 20)}... of ${line.length} bytes` : line;

const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'date', 'via']);

describe('a request has the same result, local or forwarded:', () => {
  for (const bytes of [1_000, 17_000, 40_000, 60_000]) {
    for (const [kind, fields] of [
      ['in many fields', fieldsOf(bytes)],
      ['in one field', [`X-Large: ${'x'.repeat(bytes)}`]],
    ] as const) {
      test(`a response head of ${bytes} bytes, ${kind}`, BOUNDED, async (t) => {
        const app = await serveCalls(t, (socket) => socket.write(response(...fields)));
        const { local, forwarded } = await openPaths(t, app);
        const call = post('/', 'hello', SESSION);
        const [here, there] = [await local(call), await forwarded(call)];
        assert.equal(here.status, 200);
        assert.deepEqual(endToEndParts(there), endToEndParts(here));
      });
    }
  }

  for (const count of [100, 400]) {
    test(`a response head of ${count} fields`, BOUNDED, async (t) => {
      const fields = Array.from({ length: count }, (_, i) => `X-${i}: ${i}`);
      const app = await serveCalls(t, (socket) => socket.write(response(...fields)));
      const { local, forwarded } = await openPaths(t, app);
      const call = post('/', 'hello', SESSION);
      const [here, there] = [await local(call), await forwarded(call)];
      assert.equal(here.status, 200);
      assert.deepEqual(endToEndParts(there), endToEndParts(here));
    });
  }

  /** Sends the request on both paths, and compares the responses and the requests at the app. */
  async function sendBoth(t: TestContext, call: string): Promise<void> {
    const heads: string[] = [];
    const app = await serveCalls(t, (socket, request) => {
      heads.push(request.split('\r\n\r\n')[0] ?? '');
      socket.write(response());
    });
    const { local, forwarded } = await openPaths(t, app);
    const [here, there] = [await local(call), await forwarded(call)];
    assert.deepEqual(endToEndParts(there), endToEndParts(here));
    assert.equal(heads.length, here.status === 200 ? 2 : 0);
    const [ofHere, ofThere] = heads.map((head) => linesOfClient(head).map(shortened));
    assert.deepEqual(ofThere, ofHere);
  }

  /** The lines without those that a sidecar adds or rewrites. */
  function linesOfClient(head: string): string[] {
    const rewritten = /^(?:x-forwarded-.*|connection|via|host|content-length):/i;
    return head.split('\r\n').filter((line) => !rewritten.test(line));
  }

  // 32.7 KB: with the fields of a forward it exceeds 32 KB.
  for (const bytes of [20_000, 30_000, 32_700, 33_000, 40_000, 60_000]) {
    test(`a request head of ${bytes} bytes`, BOUNDED, async (t) => {
      const own = post('/', 'hello', SESSION).length;
      await sendBoth(t, post('/', 'hello', SESSION, ...fieldsOf(bytes - own)));
    });
  }

  for (const bytes of [4_000, 8_000, 16_000, 20_000]) {
    test(`a target of ${bytes} bytes`, BOUNDED, async (t) => {
      await sendBoth(t, post(`/${'t'.repeat(bytes - 1)}`, 'hello', SESSION));
    });
  }

  for (const count of [100, 400, 490, 495, 499, 500, 501, 600]) {
    test(`a request head of ${count} fields`, BOUNDED, async (t) => {
      // The other three are Host, Content-Length and the session.
      const fields = Array.from({ length: count - 3 }, (_, i) => `X-${i}: ${i}`);
      await sendBoth(t, post('/', 'hello', SESSION, ...fields));
    });
  }

  test('a request head of 20,000 bytes is accepted', BOUNDED, async (t) => {
    const app = await serveCalls(t, (socket) => socket.write(response()));
    const { local, forwarded } = await openPaths(t, app);
    const call = post('/', 'hello', SESSION, ...fieldsOf(20_000));
    assert.equal((await local(call)).status, 200);
    assert.equal((await forwarded(call)).status, 200);
  });
});

/** Ways in which an app fails after it executed the request. */
const FAILURES: readonly (readonly [name: string, fail: (socket: Socket) => void])[] = [
  ['closes its connection', (socket) => void socket.end()],
  ['resets its connection', (socket) => void socket.resetAndDestroy()],
  ['closes in the middle of the head', (socket) => void socket.end('HTTP/1.1 200 OK\r\nX-A: ')],
  ['closes after a 1xx', (socket) => void socket.end('HTTP/1.1 102 Processing\r\n\r\n')],
  ['sends bytes that are not HTTP', (socket) => void socket.write('nonsense\r\n\r\n')],
  [
    'sends a head that is too large',
    (socket) => void socket.write(response(...fieldsOf(2_000_000))),
  ],
];

const UNSAFE: readonly (readonly [kind: string, text: string])[] = [
  ['a POST', post('/', 'hello', SESSION)],
  ['a POST in chunks', postInChunks('/', 'hello', SESSION)],
  ['a PATCH', `${requestText('PATCH', '/', 'Content-Length: 5', SESSION)}hello`],
];

function assertNotRetryable({ status, fields }: ReceivedResponse, runs: number): void {
  assert.deepEqual(
    { status, retryAfter: fields.get('retry-after'), runs },
    {
      status: 502,
      retryAfter: undefined,
      runs: 1,
    },
  );
}

describe('a delivered request without a response returns 502 without Retry-After, and is executed once:', () => {
  for (const path of ['local', 'forwarded'] as const) {
    for (const [kind, call] of UNSAFE) {
      for (const [what, fail] of FAILURES) {
        test(`${kind}, ${path}, whose app ${what}`, BOUNDED, async (t) => {
          let runs = 0;
          const app = await serveCalls(t, (socket) => {
            runs += 1;
            fail(socket);
          });
          const paths = await openPaths(t, app);
          assertNotRetryable(await paths[path](call), runs);
        });
      }

      test(`${kind}, ${path}, on a connection that was used before`, BOUNDED, async (t) => {
        let runs = 0;
        const app = await serveCalls(t, (socket, request) => {
          if (request.includes(' /warm ')) {
            socket.write(response());
          } else {
            runs += 1;
            socket.destroy();
          }
        });
        const paths = await openPaths(t, app);
        assert.equal((await paths[path](post('/warm', 'hello', SESSION))).status, 200);
        assertNotRetryable(await paths[path](call), runs);
      });
    }
  }

  for (const [kind, call] of UNSAFE) {
    test(`${kind} whose connection to the owner is lost`, BOUNDED, async (t) => {
      let runs = 0;
      const app = await serveCalls(t, () => {
        runs += 1;
        paths.fleet.lines.get('m1')?.leadTo(undefined);
      });
      const paths = await openPaths(t, app);
      assertNotRetryable(await paths.forwarded(call), runs);
    });
  }

  test('a POST whose app keeps reading before it closes', BOUNDED, async (t) => {
    let runs = 0;
    const app = await serveRawApp(t, (socket, packet) => {
      if (packet.includes('POST ')) runs += 1;
      if (packet.endsWith('last')) socket.end();
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(`${requestText('POST', '/', 'Content-Length: 9')}first`);
    client.send('last');
    const [received] = await untilResponses(client, 1);
    assert.ok(received);
    assertNotRetryable(received, runs);
  });
});

describe('a request that may be retried:', () => {
  test('a POST to an unreachable owner returns 503 with Retry-After', BOUNDED, async (t) => {
    const { fleet, forwarded } = await openPaths(t, await serveCalls(t, () => assert.fail()));
    fleet.lines.get('m1')?.leadTo(undefined);
    const received = await forwarded(post('/', 'hello', SESSION));
    assert.deepEqual([received.status, received.fields.get('retry-after')], [503, '1']);
  });

  test('a delivered GET returns 502, and its connection stays open', BOUNDED, async (t) => {
    const app = await serveRawApp(t, (socket) => socket.end('HTTP/1.1 200 OK\r\nX-A: '));
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(get('/') + get('/'));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [502, 502],
    );
    assert.ok(!responses.some(hasConnectionClose));
  });
});
