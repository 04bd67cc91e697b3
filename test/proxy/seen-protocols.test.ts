/** Which protocols a sidecar has seen: its log, `/status` and `/metrics`, over real connections. */
import assert from 'node:assert/strict';
import type { RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { Status } from '../../src/admin/status.ts';
import { until } from '../fleet/support.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';
import { openMetrics } from '../support/metrics.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const TOKEN = 'zP3NrZ9eqOVhWvSpsNfHXg';
const ADMIN_TOKEN = 'a-token-of-an-operator';
const HEX = '0123456789abcdef0123456789abcdef';
const FIRST = 'first request of a protocol';

interface Setup {
  readonly log: MemoryLog;
  readonly send: (path: string, init?: RequestInit) => Promise<Response>;
  readonly admin: (path: string) => Promise<Response>;
  /** The counts of `/status`. */
  readonly counts: () => Promise<Status['protocols']>;
  readonly firstLines: () => readonly object[];
}

/** Mints ids as SignalR, WebDriver and MCP do; `/missing` and what is below it is not there. */
const app: RequestListener = (req, res) => {
  const { url = '' } = req;
  req.resume();
  if (url === '/mcp') res.setHeader('mcp-session-id', 'abc');
  res.setHeader('content-type', 'application/json');
  res.statusCode = url.startsWith('/missing') ? 404 : 200;
  if (url === '/hub/negotiate') res.end(JSON.stringify({ connectionId: TOKEN }));
  else if (url === '/session') res.end(JSON.stringify({ sessionId: HEX }));
  else res.end('{}');
};

async function setUp(t: TestContext, setting: string): Promise<Setup> {
  let requestCount = 0;
  const log = createMemoryLog(() => (requestCount += 1));
  const parts = { logger: log.logger, metrics: openMetrics(t) };
  const env = { SESSION_PROTOCOLS: setting, ADMIN_TOKEN };
  const { ports } = await startTestSidecar(t, await serveApp(t, app), env, parts);
  let sent = 0;
  const admin = (path: string, headers = {}): Promise<Response> =>
    fetch(`http://127.0.0.1:${ports.admin}${path}`, { headers });
  const authorized = { authorization: `Bearer ${ADMIN_TOKEN}` };
  return {
    log,
    send: async (path, init = {}) => {
      const response = await fetch(`http://127.0.0.1:${ports.public}${path}`, init);
      await response.arrayBuffer();
      sent += 1;
      // Its record ends behind the response.
      await until(() => requestCount === sent);
      return response;
    },
    admin,
    counts: async () => ((await (await admin('/status', authorized)).json()) as Status).protocols,
    firstLines: () =>
      log.lines.filter(({ message }) => message === FIRST).map(({ fields }) => fields),
  };
}

const POST = { method: 'POST' };

describe('with auto', () => {
  test('the first request of each protocol is a line of the log', async (t) => {
    const { send, firstLines } = await setUp(t, 'auto');
    await send('/hub/negotiate', POST);
    assert.deepEqual(firstLines(), [], 'what reveals an id has none');
    await send(`/hub?id=${TOKEN}`);
    await send(`/hub?id=${TOKEN}`);
    await send('/', { headers: { 'mcp-session-id': 'abc' } });
    await send('/', { headers: { cookie: 'PHPSESSID=abc' } });
    assert.deepEqual(firstLines(), [
      { protocol: 'signalr', products: 'SignalR, Blazor Server' },
      { protocol: 'mcp', products: 'MCP servers, Streamable HTTP' },
      { protocol: 'php', products: 'PHP' },
    ]);
  });

  test('requests are counted in /status and in the metric', async (t) => {
    const { send, counts, admin } = await setUp(t, 'auto,path:^/rooms/([^/]+)');
    await send('/session', POST);
    for (let i = 0; i < 3; i += 1) await send(`/session/${HEX}/url`);
    await send('/missing', { headers: { 'mcp-session-id': 'abc' } });
    await send('/', { headers: { cookie: 'connect.sid=abc' } });
    await send('/rooms/lobby');
    await send('/');
    assert.deepEqual(await counts(), {
      ...{ webdriver: 3, mcp: 1, express: 1, 'path:^/rooms/([^/]+)': 1 },
    });
    const { protocols } = (await (await admin('/status')).json()) as Status;
    assert.deepEqual(protocols, { webdriver: 3, mcp: 1, express: 1, path: 1 }, 'without the token');
    const text = await (await admin('/metrics')).text();
    for (const [label, count] of [
      ['webdriver', 3],
      ['mcp', 1],
      ['express', 1],
      ['path', 1],
      ['signalr', 0],
    ] as const) {
      const line = `fly_affinity_session_requests_total{protocol="${label}"} ${count}\n`;
      assert.ok(text.includes(line), line);
    }
    assert.doesNotMatch(text, /rooms/);
  });

  test('/status has the state of the Machine, and no id', async (t) => {
    const { send, admin } = await setUp(t, 'auto');
    await send('/', { headers: { 'mcp-session-id': 'secret-id' } });
    const response = await admin('/status');
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.doesNotMatch(text, /secret-id|127\.0\.0\.1/);
    const { machine, ready, protocols, store } = JSON.parse(text) as Status;
    assert.deepEqual([machine, ready, store.kind, protocols], ['m1', true, 'memory', { mcp: 1 }]);
    assert.equal((await admin('/status/')).status, 404);
  });

  test('a text that nobody has revealed as an id is none, and counts for nothing', async (t) => {
    const { send, counts, firstLines, log } = await setUp(t, 'auto');
    await send(`/users?id=${TOKEN}`);
    await send(`/missing/session/${HEX}`);
    assert.deepEqual(await counts(), {});
    assert.deepEqual(firstLines(), []);
    assert.deepEqual(log.messages('warn'), []);
  });

  test('nothing is warned of', async (t) => {
    const { send, log } = await setUp(t, 'auto');
    await send('/?EIO=4&sid=abc');
    await send(`/call/predict/${HEX}`);
    await send('/', { headers: { cookie: 'JSESSIONID=abc' } });
    assert.deepEqual(log.messages('warn'), []);
  });
});

describe('with a list without auto', () => {
  test('one warning names the preset of a protocol that it misses', async (t) => {
    const { send, log, counts } = await setUp(t, 'mcp,rpc');
    for (let i = 0; i < 2; i += 1) {
      await send('/socket.io/?EIO=4&transport=polling&sid=abc');
      await send('/', { headers: { cookie: 'a=1; connect.sid=abc' } });
    }
    assert.deepEqual(log.messages('warn'), [
      'looks like Socket.IO 2 to 4, Engine.IO; add socket.io to SESSION_PROTOCOLS',
      'looks like express-session; add express to SESSION_PROTOCOLS',
    ]);
    const fields = log.lines.filter(({ level }) => level === 'warn').map((line) => line.fields);
    assert.deepEqual(fields, [{ protocol: 'socket.io' }, { protocol: 'express' }]);
    assert.deepEqual(await counts(), {});
  });

  test('a preset of two protocols is named once', async (t) => {
    const { send, log } = await setUp(t, 'mcp');
    await send('/queue/data?session_hash=abc123xyz');
    await send(`/call/predict/${HEX}`);
    assert.deepEqual(log.messages('warn'), ['looks like Gradio; add gradio to SESSION_PROTOCOLS']);
  });

  test('a request that the app rejects is no sign of a protocol', async (t) => {
    const { send, log } = await setUp(t, 'mcp,rpc');
    await send('/missing/?EIO=4&transport=polling&sid=abc');
    await send('/missing', { headers: { cookie: 'connect.sid=abc' } });
    assert.deepEqual(log.messages('warn'), []);
  });

  test('a request with an id of a listed protocol is one of that', async (t) => {
    const { send, log, counts } = await setUp(t, 'mcp,rpc');
    await send('/?EIO=4&sid=abc', { headers: { 'mcp-session-id': 'abc', cookie: 'PHPSESSID=a' } });
    assert.deepEqual(log.messages('warn'), []);
    assert.deepEqual(await counts(), { mcp: 1 });
  });

  test('the parameters of mcp-sse and rpc are too common to be a sign', async (t) => {
    const { send, log } = await setUp(t, 'mcp');
    await send('/?session_id=abc&sessionId=def', { headers: { 'x-session-id': 'abc' } });
    assert.deepEqual(log.messages('warn'), []);
  });
});
