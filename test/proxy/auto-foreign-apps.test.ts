/**
 * `auto` in front of apps whose requests only look like those of a protocol: each gets the same response as without a
 * sidecar, also while a peer is silent, and no session is stored.
 */
import assert from 'node:assert/strict';
import http, { type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { createTestClock, startTurnClock } from '../support/clock.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

const TOKEN = 'zP3NrZ9eqOVhWvSpsNfHXg';
const UUID = 'cd7e8b5a-3b7f-4b5e-9d3e-0123456789ab';
const HEX = '0123456789abcdef0123456789abcdef';
const JSON_TYPE = { 'content-type': 'application/json' };
const TUS = { 'tus-resumable': '1.0.0' };

interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string;
}

interface Row {
  readonly claim: string;
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly answer?: Answer;
  /** An id may be in it: only peers know whether they have revealed it. */
  readonly asksPeers?: true;
}

const json = (value: unknown, status = 200): Answer => ({
  status,
  headers: JSON_TYPE,
  body: JSON.stringify(value),
});

// prettier-ignore
const ROWS: readonly Row[] = [
  { claim: 'a row by its number', path: '/users?id=5' },
  { claim: 'a row by a text of 22 characters', path: `/users?id=${TOKEN}`, asksPeers: true },
  { claim: 'a list of two texts of 22 characters', path: `/users?id=${TOKEN}&id=A${TOKEN.slice(1)}` },
  { claim: 'a text of 22 characters that is not there', path: `/users?id=${TOKEN}`, answer: { status: 404, body: 'no such user' }, asksPeers: true },
  { claim: 'a row that is deleted', method: 'DELETE', path: `/users?id=${TOKEN}`, answer: { status: 204 }, asksPeers: true },
  { claim: 'a kernel of rock', path: `/api/kernels/${UUID}`, answer: { status: 404, body: 'no such kernel' }, asksPeers: true },
  { claim: 'a session of a user', path: `/api/sessions/${UUID}`, asksPeers: true },
  { claim: 'a session of a user that is deleted', method: 'DELETE', path: `/api/sessions/${UUID}`, answer: { status: 204 }, asksPeers: true },
  { claim: 'a login', method: 'POST', path: '/api/sessions', headers: JSON_TYPE, body: '{}', answer: json({ id: 5, user: 'ann' }, 201) },
  { claim: 'a login by another URL', method: 'POST', path: '/session', headers: JSON_TYPE, body: '{}', answer: json({ sessionId: 'short' }) },
  { claim: 'a conference session', path: `/session/${HEX}`, answer: { status: 404, body: 'no such talk' }, asksPeers: true },
  { claim: 'a vote in a conference session', method: 'POST', path: `/session/${HEX}/votes`, answer: { status: 201, headers: { location: `/session/${HEX}/votes/1` } }, asksPeers: true },
  { claim: 'a page of a browser', path: `/devtools/page/${HEX}`, answer: { status: 404 }, asksPeers: true },
  { claim: 'a document in JSON', path: '/report/json', answer: json({ a: [1, 2] }) },
  { claim: 'a heartbeat of a service', path: '/heartbeat/service_1' },
  { claim: 'a heartbeat of another service', path: '/heartbeat/service_2' },
  { claim: 'a survey response', path: '/survey/responses/resp_1', answer: { status: 404 }, asksPeers: true },
  { claim: 'a new survey response', method: 'POST', path: '/survey/responses', headers: JSON_TYPE, body: '{"previous_response_id":"resp_0","a":1}', answer: json({ id: 'survey_1' }, 201), asksPeers: true },
  { claim: 'a call to a person', method: 'POST', path: '/call/ann', headers: JSON_TYPE, body: '{}', answer: json({ event_id: 5 }) },
  { claim: 'the record of a call', path: `/call/ann/${HEX}`, answer: { status: 404, body: 'no such call' }, asksPeers: true },
  { claim: 'a match', method: 'POST', path: '/matchmake/joinById/club-9', answer: { status: 404 }, asksPeers: true },
  { claim: 'a match, as text', method: 'POST', path: '/matchmake/new', answer: { headers: { 'content-type': 'text/plain' }, body: 'later' } },
  { claim: 'a negotiation of a price', method: 'POST', path: '/price/negotiate', headers: JSON_TYPE, body: '{"offer":5}', answer: json({ offer: 6 }) },
  { claim: 'a file of a server that reads the header of tus', method: 'PATCH', path: '/files/1', headers: TUS, answer: { status: 404 }, asksPeers: true },
  { claim: 'a new row with a Location', method: 'POST', path: '/users', answer: { status: 201, headers: { location: '/users/6?sid=1' } } },
  { claim: 'a redirect to another host', path: '/away', answer: { status: 302, headers: { location: 'https://other/a?id=5' } } },
  { claim: 'a sid of another app', path: '/report?sid=abc&sid=def' },
  { claim: 'two filters by session_id', path: '/report?session_id=abc&session_id=def' },
  { claim: 'two filters by sessionId', path: '/report?sessionId=abc&sessionId=def' },
  { claim: 'two pages of Gradio', path: '/report?session_hash=abc&session_hash=def' },
  { claim: 'two polls of Engine.IO', path: '/report?EIO=4&sid=abc&sid=def' },
  { claim: 'a session in a database', path: '/cart?sessionId=abc', asksPeers: true },
  { claim: 'a session in a database that is not there', path: '/cart?sessionId=abc', answer: { status: 404, body: 'no such cart' }, asksPeers: true },
  { claim: 'a session that ends like an owner hint', path: '/cart?sessionId=abc~draft', asksPeers: true },
  { claim: 'a cookie of another app', path: '/', headers: { cookie: 'sid=abc; session=def' }, answer: { headers: { 'set-cookie': ['theme=dark', 'sid=x; Path=/'] } } },
  { claim: 'the documents of yjs', path: '/docs/room-9?room=a' },
  { claim: 'a user in JSON', method: 'POST', path: '/v1/chat', headers: JSON_TYPE, body: '{"user":"u","prompt_cache_key":"k"}' },
];

/** Responds to each request as its row says, and keeps the headers. */
function appOf(row: Row, received: IncomingHttpHeaders[]): RequestListener {
  const { status = 200, headers = {}, body = 'ok' } = row.answer ?? {};
  return (req, res) => {
    received.push(req.headers);
    req.resume();
    req.on('end', () => {
      res.sendDate = false;
      res.writeHead(status, headers).end(status === 204 ? undefined : body);
    });
  };
}

/** Accepts connections and never responds. */
async function serveWithoutResponse(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

interface Outcome {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function send(port: number, { method = 'GET', path, headers, body }: Row): Promise<Outcome> {
  const request = http.request({ port, host: '127.0.0.1', method, path, headers, agent: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.setEncoding('utf8');
  const text = (await response.toArray()).join('');
  return { status: response.statusCode, headers: response.headers, body: text };
}

/** Ours are those that name the client and the proxy. */
const FORWARDED = /^(?:x-forwarded-|via$|forwarded$|connection$|accept-encoding$|host$)/;

const withoutForwarded = (headers: IncomingHttpHeaders | undefined): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(headers ?? {}).filter(([name]) => !FORWARDED.test(name)));

async function assertTransparent(
  row: Row,
  machine: TestMachine,
  appPort: number,
  received: IncomingHttpHeaders[],
): Promise<void> {
  const direct = await send(appPort, row);
  const passed = await send(machine.sidecar.ports.public, row);
  assert.deepEqual(withoutForwarded(passed.headers), withoutForwarded(direct.headers));
  assert.deepEqual([passed.status, passed.body], [direct.status, direct.body]);
  assert.deepEqual(withoutForwarded(received[1]), withoutForwarded(received[0]));
  assert.equal(received.length, 2, 'the app gets each request once');
  assert.equal(await machine.rowCount(), 0, 'nothing is stored');
}

interface Setup {
  readonly app: number;
  readonly received: IncomingHttpHeaders[];
  readonly m1: TestMachine;
  /** From now on m2 accepts connections and never responds. */
  readonly silencePeer: () => Promise<void>;
}

async function setUp(t: TestContext, row: Row, clock: Clock): Promise<Setup> {
  const received: IncomingHttpHeaders[] = [];
  const app = await serveApp(t, appOf(row, received));
  const fleet = await openFleet(t, 'm1', 'm2');
  await fleet.start('m2', app);
  const m1 = await fleet.start('m1', app, {}, { clock });
  const silencePeer = async (): Promise<void> =>
    fleet.lines.get('m2')?.leadTo(await serveWithoutResponse(t));
  return { app, received, m1, silencePeer };
}

for (const row of ROWS) {
  test(`an app of its own: ${row.claim}`, async (t) => {
    // It stands still: a response that waits for a timeout never comes.
    const { app, received, m1 } = await setUp(t, row, createTestClock());
    await assertTransparent(row, m1, app, received);
  });

  test(`an app of its own, beside a silent peer: ${row.claim}`, async (t) => {
    const clock = row.asksPeers ? startTurnClock(t) : createTestClock();
    const { app, received, m1, silencePeer } = await setUp(t, row, clock);
    await silencePeer();
    await assertTransparent(row, m1, app, received);
  });
}

test('a stream of JSON is not held, and may be compressed', async (t) => {
  let encodings: string | undefined;
  const app = await serveApp(t, (req, res) => {
    encodings = req.headers['accept-encoding'];
    res.writeHead(200, JSON_TYPE).write('{"line":1}\n');
  });
  const fleet = await openFleet(t, 'm1');
  const m1 = await fleet.start('m1', app);
  const leaving = new AbortController();
  const { body } = await fetch(`${m1.url}/logs/json`, {
    headers: { 'accept-encoding': 'br' },
    signal: leaving.signal,
  });
  assert.ok(body);
  const { value } = await (body as ReadableStream<Uint8Array>).getReader().read();
  assert.equal(Buffer.from(value ?? []).toString(), '{"line":1}\n');
  assert.equal(encodings, 'br');
  leaving.abort();
});

for (const type of ['application/json', 'application/jsonl', 'application/stream+json']) {
  test(`lines of ${type} pass one by one, also where a session might begin`, async (t) => {
    let stream: http.ServerResponse | undefined;
    const app = await serveApp(t, (req, res) => {
      req.resume();
      res.writeHead(200, { 'content-type': type }).write('{"line":1}\n');
      stream = res;
    });
    const fleet = await openFleet(t, 'm1');
    const { url } = await fleet.start('m1', app);
    const response = await fetch(`${url}/session`, { method: 'POST' });
    const lines = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await lines?.read())?.value, '{"line":1}\n');
    stream?.end('{"line":2}\n');
    assert.equal((await lines?.read())?.value, '{"line":2}\n');
    assert.equal((await lines?.read())?.done, true);
  });
}
