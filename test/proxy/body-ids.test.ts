/** Ids in JSON bodies over real sockets: such a body is read before the request is routed. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { SidecarParts } from '../../src/app/app.ts';
import { DEFAULT_LIMITS } from '../../src/http/limits.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { MAX_BODY_BYTES } from '../../src/protocols/request-ids.ts';
import { until } from '../fleet/support.ts';
import { createTestClock } from '../support/clock.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import { openClient, type RawClient } from '../support/raw.ts';
import { serve } from '../support/sidecar.ts';

const SETTING = { SESSION_PROTOCOLS: 'body:/user/id' };
const IDS = ['m1', 'm2'];
/** Their place is the Machine that they are sent to, or the other one. */
const [HERE, THERE] = [idPlacedOn('m1', IDS), idPlacedOn('m2', IDS)];

interface Received {
  readonly target: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

interface App {
  readonly server: Server;
  readonly received: Received[];
}

/** Responds with its name. */
function createApp(name: string): App {
  const received: Received[] = [];
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const { url: target = '', headers } = req;
      received.push({ target, headers, body: Buffer.concat(chunks) });
      res.end(name);
    });
  });
  return { server, received };
}

const targetsOf = ({ received }: App): readonly string[] => received.map(({ target }) => target);

interface Setup {
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  readonly apps: readonly [App, App];
  /** Connected to m1. */
  readonly client: RawClient;
}

async function setUp(t: TestContext, parts: Partial<SidecarParts> = {}): Promise<Setup> {
  const fleet = await openFleet(t, ...IDS);
  const apps = [createApp('m1'), createApp('m2')] as const;
  const m1 = await fleet.start('m1', await serve(t, apps[0].server), SETTING, parts);
  const m2 = await fleet.start('m2', await serve(t, apps[1].server), SETTING);
  await until(() => m1.sidecar.readiness().fleet.silent === 0);
  const client = await openClient(t, m1.sidecar.ports.public);
  return { m1, m2, apps, client };
}

const bodyOf = (id: string, bytes = 0): string => {
  const [start, end] = [`{"user":{"id":${JSON.stringify(id)}},"x":"`, '"}'];
  return start + 'x'.repeat(Math.max(0, bytes - start.length - end.length)) + end;
};

function headOf(body: string, fields = ''): string {
  return `POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n${fields}\r\n`;
}

const chunked = (body: string): string =>
  `POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;

const GET = 'GET /next HTTP/1.1\r\nHost: a\r\n\r\n';

/** Of the responses so far. A replay is a 307. */
const statusesIn = (text: string): readonly string[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status ?? '');

async function untilResponses(client: RawClient, count: number): Promise<string> {
  return client.until((text) => {
    const heads = text.match(/HTTP\/1\.1 [2-5]\d\d/g)?.length ?? 0;
    return (
      heads === count && (text.endsWith('m1') || text.endsWith('m2') || text.includes('fly-replay'))
    );
  });
}

describe('a request whose id is in its body', () => {
  test('is served by the place of its id, whose app gets the body byte for byte', async (t) => {
    const { apps, client, m1 } = await setUp(t);
    const body = `{"user" : {"id":"${HERE}"},\n"x":"caf\xc3\xa9\\u0000"} \r\n`;
    client.send(headOf(body) + body);
    assert.match(await untilResponses(client, 1), /\r\n\r\nm1$/);
    const [got] = apps[0].received;
    assert.equal(got?.body.toString('latin1'), body);
    assert.equal(got.headers['content-length'], String(body.length));
    assert.equal(await m1.rowCount(), 1);
  });

  test('is replayed to the place of its id', async (t) => {
    const { apps, client } = await setUp(t);
    const body = bodyOf(THERE);
    client.send(headOf(body) + body);
    assert.match(await untilResponses(client, 1), /\nfly-replay: instance=m2;/i);
    assert.equal(apps[0].received.length, 0);
  });

  test('may come in pieces of one byte, and is not routed before the last', async (t) => {
    const { apps, client, m1 } = await setUp(t);
    const body = bodyOf(HERE, 200);
    const text = headOf(body) + body;
    for (const byte of text.slice(0, -1)) client.send(byte);
    assert.equal(await (await fetch(`${m1.url}/next`)).text(), 'm1');
    assert.equal(client.received(), '');
    assert.deepEqual(targetsOf(apps[0]), ['/next']);
    client.send(text.slice(-1));
    assert.match(await untilResponses(client, 1), /\r\n\r\nm1$/);
    assert.equal(apps[0].received[1]?.body.toString('latin1'), body);
  });

  test('is asked for its body if it expects 100 (Continue), once', async (t) => {
    const { apps, client } = await setUp(t);
    const body = bodyOf(HERE);
    client.send(headOf(body, 'Expect: 100-continue\r\n'));
    await client.until((text) => text === 'HTTP/1.1 100 Continue\r\n\r\n');
    client.send(body + GET);
    const text = await untilResponses(client, 2);
    assert.deepEqual(statusesIn(text), ['100', '200', '200']);
    assert.equal(apps[0].received[0]?.body.toString('latin1'), body);
  });

  test('does not swallow the request behind it, whether in its packet or not', async (t) => {
    const { apps, client } = await setUp(t);
    const [here, there] = [bodyOf(HERE), bodyOf(THERE)];
    client.send(headOf(here) + here + headOf(there) + there.slice(0, 5));
    client.send(there.slice(5) + GET);
    const text = await untilResponses(client, 3);
    assert.deepEqual(statusesIn(text), ['200', '307', '200']);
    assert.match(text, /fly-replay: instance=m2;/i);
    assert.deepEqual(targetsOf(apps[0]), ['/a?b', '/next']);
  });

  test('is forwarded with its body where it was replayed already', async (t) => {
    const { apps, client } = await setUp(t);
    const body = bodyOf(THERE, 60_000);
    client.send(headOf(body, 'fly-replay-src: instance=m9;state=fly-affinity;t=1\r\n') + body);
    assert.match(await untilResponses(client, 1), /\r\n\r\nm2$/);
    assert.equal(apps[0].received.length, 0);
    assert.equal(apps[1].received[0]?.body.toString('latin1'), body);
    assert.equal(apps[1].received[0].headers['content-type'], 'application/json');
  });

  test('keeps its Machine: another body with that id is sent there', async (t) => {
    const { m1, m2, client } = await setUp(t);
    const body = bodyOf(HERE);
    client.send(headOf(body) + body);
    await untilResponses(client, 1);
    await until(async () => (await m2.rowCount()) === 1);
    const init = { method: 'POST', body, headers: { 'content-type': 'application/json' } };
    const elsewhere = await fetch(m2.url, init);
    assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
    assert.equal(await (await fetch(m1.url, init)).text(), 'm1');
  });
});

describe('the limit of 64 KB', () => {
  for (const [claim, bytes, replayed] of [
    ['a body of 64 KB has an id', MAX_BODY_BYTES, true],
    ['a body that is one byte longer has none', MAX_BODY_BYTES + 1, false],
    ['a body of 1 MB has none', 1_000_000, false],
  ] as const) {
    test(claim, async (t) => {
      const { apps, client, m1 } = await setUp(t);
      const body = bodyOf(THERE, bytes);
      assert.equal(body.length, bytes);
      client.send(headOf(body) + body);
      const text = await untilResponses(client, 1);
      assert.equal(/fly-replay: instance=m2;/i.test(text), replayed);
      assert.equal(apps[0].received.length, replayed ? 0 : 1);
      if (!replayed) assert.equal(apps[0].received[0]?.body.toString('latin1'), body);
      assert.equal(await m1.rowCount(), 0);
    });
  }

  test('a body of 64 KB is served, and the next request too', async (t) => {
    const { apps, client } = await setUp(t);
    const body = bodyOf(HERE, MAX_BODY_BYTES);
    client.send(headOf(body) + body.slice(0, 65_000));
    client.send(body.slice(65_000) + GET);
    assert.deepEqual(statusesIn(await untilResponses(client, 2)), ['200', '200']);
    assert.equal(apps[0].received[0]?.body.toString('latin1'), body);
  });
});

describe('a body without an id', () => {
  const body = bodyOf(THERE);
  const rows: readonly (readonly [claim: string, text: string])[] = [
    ['in chunks', chunked(body)],
    ['malformed', headOf(body.slice(1)) + body.slice(1)],
    ['cut off', headOf(body.slice(0, 15)) + body.slice(0, 15)],
    ['of another type', headOf(body).replace('application/json', 'text/plain') + body],
    ['empty', headOf('')],
    ['with an object in its place', headOf('{"user":{"id":{}}}') + '{"user":{"id":{}}}'],
    ['with an empty id', headOf('{"user":{"id":""}}') + '{"user":{"id":""}}'],
    [
      'with a control character in its id',
      headOf('{"user":{"id":"a\\u0000"}}') + '{"user":{"id":"a\\u0000"}}',
    ],
    ['of bytes', headOf('\x00\xff\xfe') + '\x00\xff\xfe'],
  ];
  for (const [claim, text] of rows) {
    test(`is served here, and binds nothing: ${claim}`, async (t) => {
      const { apps, client, m1 } = await setUp(t);
      client.send(text + GET);
      assert.deepEqual(statusesIn(await untilResponses(client, 2)), ['200', '200']);
      assert.equal(await m1.rowCount(), 0);
      assert.equal(apps[0].received.length, 2);
      assert.equal(apps[1].received.length, 0);
    });
  }
});

describe('a client that leaves in the middle of such a body', () => {
  for (const [how, leave] of [
    ['closes its connection', ({ socket }: RawClient) => void socket.destroy()],
    ['resets its connection', ({ socket }: RawClient) => void socket.resetAndDestroy()],
    ['ends its side', ({ socket }: RawClient) => void socket.end()],
  ] as const) {
    test(`and ${how} is recorded as 499, and the app sees nothing`, async (t) => {
      const recorded = Promise.withResolvers<number>();
      const metrics = { ...nullMetrics, responseSent: recorded.resolve };
      const { apps, client } = await setUp(t, { metrics });
      const body = bodyOf(HERE);
      client.send(headOf(body, 'Expect: 100-continue\r\n'));
      await client.until((text) => text.includes('100 Continue'));
      client.send(body.slice(0, 5));
      leave(client);
      assert.equal(await recorded.promise, 499);
      await client.untilClosed();
      assert.deepEqual(statusesIn(client.received()), ['100']);
      assert.equal(apps[0].received.length, 0);
    });
  }

  test('and ends its side behind the body gets its response', async (t) => {
    const { client } = await setUp(t);
    const body = bodyOf(HERE);
    client.send(headOf(body) + body);
    client.socket.end();
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 200 [^]*\r\n\r\nm1$/);
  });

  test('and sends nothing more gets 408 once it has paused for too long', async (t) => {
    const clock = createTestClock();
    const { client } = await setUp(t, { clock });
    const body = bodyOf(HERE);
    client.send(headOf(body, 'Expect: 100-continue\r\n'));
    await client.until((text) => text.includes('100 Continue'));
    await clock.advance(2 * DEFAULT_LIMITS.stallTimeoutMs);
    assert.match(await client.untilClosed(), /HTTP\/1\.1 408 /);
  });
});

describe('slow bodies', () => {
  test('are not waited for longer than five seconds: the app gets what comes, as it comes', async (t) => {
    const clock = createTestClock();
    const { apps, client } = await setUp(t, { clock });
    const body = bodyOf(THERE);
    client.send(headOf(body, 'Expect: 100-continue\r\n'));
    await client.until((text) => text.includes('100 Continue'));
    client.send(body.slice(0, 9));
    await clock.advance(4_999);
    assert.deepEqual(statusesIn(client.received()), ['100']);
    await clock.advance(1);
    client.send(body.slice(9));
    assert.match(await client.until((text) => text.includes('200 OK')), /200 OK/);
    await until(() => apps[0].received.length === 1);
    assert.equal(apps[0].received[0]?.body.toString(), body);
  });

  test('leave half of the memory for buffers to other requests', async (t) => {
    const app = createApp('m1');
    const fleet = await openFleet(t, 'm1');
    const settings = { ...SETTING, MAX_BUFFERED_BYTES: '1048576' };
    const { sidecar } = await fleet.start('m1', await serve(t, app.server), settings);
    const body = bodyOf(HERE, MAX_BODY_BYTES);
    const sender = async (): Promise<RawClient> => {
      const client = await openClient(t, sidecar.ports.public);
      client.send(headOf(body) + body.slice(0, -1));
      return client;
    };
    let begun = 0;
    app.server.on('request', () => (begun += 1));
    const senders: RawClient[] = [];
    // Eight at most wait, which is half of it, and the app reads the others.
    for (let count = 1; count <= 24; count += 1) {
      senders.push(await sender());
      await until(() => begun >= count - 8);
    }
    assert.ok(begun < senders.length, 'some wait');
    for (let i = 0; i < 8; i += 1) {
      const response = await fetch(`http://127.0.0.1:${sidecar.ports.public}/`);
      assert.equal(response.status, 200);
      await response.text();
    }
    for (const client of senders) client.send(body.slice(-1));
    for (const client of senders)
      assert.match(await client.until((text) => text.endsWith('m1')), /^HTTP\/1\.1 200 /);
  });
});
