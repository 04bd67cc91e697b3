/**
 * Fault 7: a forward had other limits than a local call, and a request that the app had run got a
 * 503 with Retry-After. A client sees no difference, and never gets Retry-After for an unsafe request
 * that was delivered.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { openFleet, type TestFleet } from '../../support/fleet.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  get,
  openClient,
  post,
  postInChunks,
  requestText,
  saysClose,
  untilResponses,
  type Ports,
  type ReceivedResponse,
} from './support.ts';

/** A body that is longer than that is not replayed, so that each request with a body is forwarded. */
const FORWARD_ALL = { REPLAY_MAX_BODY_BYTES: '0' };
/** In a session of m1. */
const SESSION = 'Mcp-Session-Id: abc~m1';

interface Ways {
  readonly fleet: TestFleet;
  /** To the sidecar beside the app. */
  readonly local: (text: string) => Promise<ReceivedResponse>;
  /** To the sidecar of another Machine. */
  readonly forwarded: (text: string) => Promise<ReceivedResponse>;
}

async function openWays(t: TestContext, appPort: number): Promise<Ways> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const m1 = await fleet.start('m1', appPort, FORWARD_ALL);
  const m2App = await serveRawApp(t, () => assert.fail('nothing is meant for the app of m2'));
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

/** Calls `respond` with each request that is complete; all of them end in `hello` or in chunks. */
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

/** Fields of so many bytes in all, none of them longer than a usual line. */
function fieldsOf(bytes: number): string[] {
  const each = 4_000;
  const count = Math.ceil(bytes / each);
  return Array.from({ length: count }, (_, i) => {
    const name = `X-${i}: `;
    const length = Math.min(each, bytes - i * each) - name.length - 2;
    return name + 'x'.repeat(Math.max(length, 0));
  });
}

/** What of a response has to be the same both ways: all but what belongs to one connection. */
function compared({ status, fields, body }: ReceivedResponse): unknown {
  const endToEnd = [...fields].filter(([name]) => !HOP_BY_HOP.has(name));
  return { status, body, fields: endToEnd.map(([name, value]) => shortened(`${name}: ${value}`)) };
}

/** So that a difference can be read. */
const shortened = (line: string): string =>
  line.length > 100 ? `${line.slice(0, 20)}... of ${line.length} bytes` : line;

const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'date', 'via']);

describe('a call is the same, whether it is local or forwarded:', () => {
  for (const bytes of [1_000, 17_000, 40_000, 60_000]) {
    for (const [kind, fields] of [
      ['in many fields', fieldsOf(bytes)],
      ['in one field', [`X-Large: ${'x'.repeat(bytes)}`]],
    ] as const) {
      test(`a response head of ${bytes} bytes, ${kind}`, BOUNDED, async (t) => {
        const app = await serveCalls(t, (socket) => socket.write(response(...fields)));
        const { local, forwarded } = await openWays(t, app);
        const call = post('/', 'hello', SESSION);
        const [here, there] = [await local(call), await forwarded(call)];
        assert.equal(here.status, 200);
        assert.deepEqual(compared(there), compared(here));
      });
    }
  }

  for (const count of [100, 400]) {
    test(`a response head of ${count} fields`, BOUNDED, async (t) => {
      const fields = Array.from({ length: count }, (_, i) => `X-${i}: ${i}`);
      const app = await serveCalls(t, (socket) => socket.write(response(...fields)));
      const { local, forwarded } = await openWays(t, app);
      const call = post('/', 'hello', SESSION);
      const [here, there] = [await local(call), await forwarded(call)];
      assert.equal(here.status, 200);
      assert.deepEqual(compared(there), compared(here));
    });
  }

  /** The request as its app has got it. */
  async function sendBoth(t: TestContext, call: string): Promise<void> {
    const heads: string[] = [];
    const app = await serveCalls(t, (socket, request) => {
      heads.push(request.split('\r\n\r\n')[0] ?? '');
      socket.write(response());
    });
    const { local, forwarded } = await openWays(t, app);
    const [here, there] = [await local(call), await forwarded(call)];
    assert.deepEqual(compared(there), compared(here));
    assert.equal(heads.length, here.status === 200 ? 2 : 0);
    const [ofHere, ofThere] = heads.map((head) => linesOfClient(head).map(shortened));
    assert.deepEqual(ofThere, ofHere);
  }

  /** Without what a sidecar adds, and what it may write anew. */
  function linesOfClient(head: string): string[] {
    const ours = /^(?:x-forwarded-.*|connection|via|host|content-length):/i;
    return head.split('\r\n').filter((line) => !ours.test(line));
  }

  // 32.7 KB: what the sidecar adds for a forward makes it more than 32 KB.
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
      // Three more are Host, the length and the session.
      const fields = Array.from({ length: count - 3 }, (_, i) => `X-${i}: ${i}`);
      await sendBoth(t, post('/', 'hello', SESSION, ...fields));
    });
  }

  test('a request head of 20,000 bytes is no error', BOUNDED, async (t) => {
    const app = await serveCalls(t, (socket) => socket.write(response()));
    const { local, forwarded } = await openWays(t, app);
    const call = post('/', 'hello', SESSION, ...fieldsOf(20_000));
    assert.equal((await local(call)).status, 200);
    assert.equal((await forwarded(call)).status, 200);
  });
});

/** What an app may do instead of a response, once it has run the call. */
const FAILURES: readonly (readonly [name: string, fail: (socket: Socket) => void])[] = [
  ['closes its connection', (socket) => void socket.end()],
  ['resets its connection', (socket) => void socket.resetAndDestroy()],
  ['closes in the middle of the head', (socket) => void socket.end('HTTP/1.1 200 OK\r\nX-A: ')],
  ['closes behind a 1xx', (socket) => void socket.end('HTTP/1.1 102 Processing\r\n\r\n')],
  ['says what is no HTTP', (socket) => void socket.write('nonsense\r\n\r\n')],
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

function assertNotRepeatable({ status, fields }: ReceivedResponse, runs: number): void {
  assert.deepEqual(
    { status, retryAfter: fields.get('retry-after'), runs },
    {
      status: 502,
      retryAfter: undefined,
      runs: 1,
    },
  );
}

describe('a call that was delivered and got no response is a 502 without Retry-After, and is run once:', () => {
  for (const way of ['local', 'forwarded'] as const) {
    for (const [kind, call] of UNSAFE) {
      for (const [what, fail] of FAILURES) {
        test(`${kind}, ${way}, whose app ${what}`, BOUNDED, async (t) => {
          let runs = 0;
          const app = await serveCalls(t, (socket) => {
            runs += 1;
            fail(socket);
          });
          const ways = await openWays(t, app);
          assertNotRepeatable(await ways[way](call), runs);
        });
      }

      test(`${kind}, ${way}, on a connection that was used before`, BOUNDED, async (t) => {
        let runs = 0;
        const app = await serveCalls(t, (socket, request) => {
          if (request.includes(' /warm ')) {
            socket.write(response());
          } else {
            runs += 1;
            socket.destroy();
          }
        });
        const ways = await openWays(t, app);
        assert.equal((await ways[way](post('/warm', 'hello', SESSION))).status, 200);
        assertNotRepeatable(await ways[way](call), runs);
      });
    }
  }

  for (const [kind, call] of UNSAFE) {
    test(`${kind} whose way to its owner breaks`, BOUNDED, async (t) => {
      let runs = 0;
      const app = await serveCalls(t, () => {
        runs += 1;
        ways.fleet.lines.get('m1')?.leadTo(undefined);
      });
      const ways = await openWays(t, app);
      assertNotRepeatable(await ways.forwarded(call), runs);
    });
  }

  test('a POST whose app goes on reading for a while before it closes', BOUNDED, async (t) => {
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
    assertNotRepeatable(received, runs);
  });
});

describe('a call that was not delivered may be repeated:', () => {
  test('a POST whose owner is not there is a 503 with Retry-After', BOUNDED, async (t) => {
    const { fleet, forwarded } = await openWays(t, await serveCalls(t, () => assert.fail()));
    fleet.lines.get('m1')?.leadTo(undefined);
    const received = await forwarded(post('/', 'hello', SESSION));
    assert.deepEqual([received.status, received.fields.get('retry-after')], [503, '1']);
  });

  test('a GET that was delivered is a 502, and its connection goes on', BOUNDED, async (t) => {
    const app = await serveRawApp(t, (socket) => socket.end('HTTP/1.1 200 OK\r\nX-A: '));
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(get('/') + get('/'));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [502, 502],
    );
    assert.ok(!responses.some(saysClose));
  });
});
