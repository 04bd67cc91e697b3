/** MCP's older transport, "HTTP with SSE": whatever the URL of its endpoint is, a POST to it reaches its Machine. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { test, type TestContext } from 'node:test';
import { createGzip, constants, createGunzip } from 'node:zlib';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

interface App {
  readonly port: number;
  /** The targets of all POSTs. */
  readonly posted: string[];
  /** The `accept-encoding` of each stream. */
  readonly encodings: (string | undefined)[];
}

/** Opens a stream at each GET, whose endpoint is given; compresses as the client allows. */
async function startApp(t: TestContext, endpoint: string): Promise<App> {
  const posted: string[] = [];
  const encodings: (string | undefined)[] = [];
  const port = await serveApp(t, (req, res) => {
    if (req.method === 'POST') {
      posted.push(req.url ?? '');
      res.writeHead(202).end();
      return;
    }
    const encoding = req.headers['accept-encoding'];
    encodings.push(encoding);
    const isZipped = String(encoding).includes('gzip');
    res.writeHead(200, {
      'content-type': 'text/event-stream',
      ...(isZipped && { 'content-encoding': 'gzip' }),
    });
    const event = `: hi\n\nevent: ping\ndata: 1\n\nevent: endpoint\ndata: ${endpoint}\n\n`;
    if (!isZipped) {
      res.write(event);
      return;
    }
    const gzip = createGzip({ flush: constants.Z_SYNC_FLUSH });
    gzip.pipe(res);
    gzip.write(event);
  });
  return { port, posted, encodings };
}

interface TwoMachines {
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  readonly app: App;
}

async function startTwo(
  t: TestContext,
  endpoint: string,
  env: Record<string, string> = {},
): Promise<TwoMachines> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const app = await startApp(t, endpoint);
  const other = await startApp(t, endpoint);
  return {
    m1: await fleet.start('m1', app.port, env),
    m2: await fleet.start('m2', other.port, env),
    app,
  };
}

/** Opens a stream and returns the URL of its endpoint, with what the client sees of the head. */
async function openStream(
  t: TestContext,
  machine: TestMachine,
  headers: Record<string, string>,
  path = '/sse',
): Promise<{ readonly endpoint: string; readonly head: IncomingMessage['headers'] }> {
  const request = http.get(machine.url + path, { headers, agent: false });
  t.after(() => request.destroy());
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const isZipped = response.headers['content-encoding'] === 'gzip';
  const stream = isZipped ? response.pipe(createGunzip()) : response;
  let text = '';
  for (;;) {
    const [chunk] = (await once(stream, 'data')) as [Buffer];
    text += chunk.toString();
    const [, endpoint] = /event: endpoint\ndata: (.*)\n\n/.exec(text) ?? [];
    if (endpoint !== undefined) return { endpoint, head: response.headers };
  }
}

const post = (machine: TestMachine, path: string): Promise<Response> =>
  fetch(new URL(path, machine.url), { method: 'POST', body: '{}', redirect: 'manual' });

async function assertOwned(
  { m1, m2, app }: TwoMachines,
  shown: string,
  sent: string,
): Promise<void> {
  const elsewhere = await post(m2, shown);
  assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
  assert.equal((await post(m1, shown)).status, 202);
  assert.deepEqual(app.posted, [sent]);
}

const ACCEPTING = { accept: 'text/event-stream' };

/** An id that a client may have minted goes to its place. */
const TENANT = idPlacedOn('m1', ['m1', 'm2'], 'tenant');

// prettier-ignore
const ENDPOINTS: readonly (readonly [claim: string, endpoint: string])[] = [
  ['a name in small letters', '/sse?sessionid=abc'],
  ['another name', '/messages?clientId=abc'],
  ['an id in the path', '/mcp/messages/abc'],
  ['an id in the path and an empty query', '/mcp/messages/abc?'],
  ['a tenant under a known name', `/messages?session_id=${TENANT}&sid=abc&x=%zz`],
];
for (const hints of ['true', 'false']) {
  for (const [claim, endpoint] of ENDPOINTS) {
    test(`${claim}: a POST reaches its Machine, and the app sees the URL that it wrote (hints ${hints})`, async (t) => {
      const two = await startTwo(t, endpoint, { SESSION_ID_HINTS: hints });
      const path = endpoint.includes(TENANT) ? `/sse?session_id=${TENANT}` : '/sse';
      const opened = await openStream(t, two.m1, ACCEPTING, path);
      assert.notEqual(opened.endpoint, endpoint);
      await assertOwned(two, opened.endpoint, endpoint);
    });
  }
}

test('a URL of another origin stays as it is', async (t) => {
  const { m1 } = await startTwo(t, 'https://other.example/messages/abc');
  const { endpoint } = await openStream(t, m1, ACCEPTING);
  assert.equal(endpoint, 'https://other.example/messages/abc');
});

for (const [claim, headers] of [
  ['any type', { accept: '*/*' }],
  ['no type', {}],
] as const) {
  const zipped = { ...headers, 'accept-encoding': 'gzip' };

  test(`a compressed stream for a client that accepts ${claim} passes as it is, and its known id is bound`, async (t) => {
    const two = await startTwo(t, '/messages?sessionId=abc');
    const { endpoint, head } = await openStream(t, two.m1, zipped);
    assert.equal(head['content-encoding'], 'gzip');
    assert.equal(endpoint, '/messages?sessionId=abc');
    await assertOwned(two, endpoint, endpoint);
    assert.deepEqual(two.app.encodings, ['gzip']);
  });

  test(`the next stream of its path is requested uncompressed for a client that accepts ${claim}`, async (t) => {
    const two = await startTwo(t, '/messages/abc');
    await openStream(t, two.m1, zipped);
    const { endpoint, head } = await openStream(t, two.m1, zipped);
    assert.equal(head['content-encoding'], undefined);
    assert.deepEqual(two.app.encodings, ['gzip', 'identity']);
    await assertOwned(two, endpoint, '/messages/abc');
  });
}

test('other compressed streams are requested once, and stay compressed', async (t) => {
  const encodings: (string | undefined)[] = [];
  const app = await serveApp(t, (req, res) => {
    encodings.push(req.headers['accept-encoding']);
    res.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' });
    const gzip = createGzip();
    gzip.pipe(res);
    gzip.end('data: {"token":"a/b?c"}\n\n');
  });
  const fleet = await openFleet(t, 'm1');
  const m1 = await fleet.start('m1', app);
  for (let i = 0; i < 3; i += 1) {
    const response = await fetch(m1.url, { headers: { 'accept-encoding': 'gzip' } });
    assert.equal(await response.text(), 'data: {"token":"a/b?c"}\n\n');
  }
  assert.deepEqual(encodings, ['gzip', 'gzip', 'gzip']);
});

test('a compressed response that is no stream is requested once and passes as it is', async (t) => {
  let requests = 0;
  const app = await serveApp(t, (_, res) => {
    requests += 1;
    res.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
    const gzip = createGzip();
    gzip.pipe(res);
    gzip.end('{"a":1}');
  });
  const fleet = await openFleet(t, 'm1');
  const m1 = await fleet.start('m1', app);
  const response = await fetch(m1.url, { headers: { 'accept-encoding': 'gzip' } });
  assert.deepEqual(await response.json(), { a: 1 });
  assert.equal(response.headers.get('content-encoding'), 'gzip');
  assert.equal(requests, 1);
});
