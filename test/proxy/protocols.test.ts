/** Each protocol end to end: real clients, two Machines, and real servers as their apps. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server as HttpServer } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import sockjs from 'sockjs';
import { Server as SocketIoServer } from 'socket.io';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { createMemoryLog } from '../support/log.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import { serve, serveApp, startTestSidecar } from '../support/sidecar.ts';

type StartApp = (t: TestContext) => Promise<number>;

/** Two Machines that know each other, each with an app. */
async function startTwo(
  t: TestContext,
  startApp: StartApp,
  protocols: string,
): Promise<readonly [TestMachine, TestMachine]> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const env = { SESSION_PROTOCOLS: protocols };
  return [
    await fleet.start('m1', await startApp(t), env),
    await fleet.start('m2', await startApp(t), env),
  ];
}

const call = (machine: TestMachine, path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(machine.url + path, { redirect: 'manual', ...init });

/** Asserts that the Machine replays the request to `m1`. */
async function assertReplayed(response: Response): Promise<void> {
  assert.equal(response.status, 307);
  assert.match(response.headers.get('fly-replay') ?? '', /^instance=m1;/);
  await response.text();
}

function attachSocketIo(t: TestContext, server: HttpServer): SocketIoServer {
  const sockets = new SocketIoServer(server, { pingInterval: 60_000 });
  sockets.on('connection', (socket) => {
    socket.on('echo', (text: string, reply: (text: string) => void) => reply(text));
  });
  t.after(() => sockets.close());
  return sockets;
}

const startSocketIo: StartApp = async (t) => {
  const server = createServer();
  attachSocketIo(t, server);
  return serve(t, server);
};

describe('socket.io', () => {
  const HANDSHAKE = '/socket.io/?EIO=4&transport=polling';

  async function openSession(machine: TestMachine): Promise<string> {
    const body = await (await call(machine, HANDSHAKE)).text();
    return (JSON.parse(body.slice(1)) as { sid: string }).sid;
  }

  test('a client polls, upgrades and continues over the WebSocket', async (t) => {
    const [m1] = await startTwo(t, startSocketIo, 'socket.io');
    const client = io(m1.url, { transports: ['polling', 'websocket'], forceNew: true });
    t.after(() => client.close());
    const upgraded = Promise.withResolvers<string>();
    client.io.on('open', () => {
      client.io.engine.on('upgrade', ({ name }: { name: string }) => upgraded.resolve(name));
    });
    await once(client as unknown as NodeJS.EventEmitter, 'connect');
    assert.equal(await client.emitWithAck('echo', 'polled'), 'polled');
    assert.equal(await upgraded.promise, 'websocket');
    assert.equal(await client.emitWithAck('echo', 'upgraded'), 'upgraded');
    assert.equal(await m1.rowCount(), 1);
  });

  test('a poll and an upgrade on another Machine are replayed to the owner', async (t) => {
    const [m1, m2] = await startTwo(t, startSocketIo, 'socket.io');
    const sid = await openSession(m1);
    assert.equal(sid.length, 20, 'the id of the app, without a hint');
    await assertReplayed(await call(m2, `${HANDSHAKE}&sid=${sid}`));
    const socket = new WebSocket(
      `${m2.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket&sid=${sid}`,
    );
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, Incoming];
    assert.equal(response.statusCode, 307);
    socket.on('error', () => undefined).terminate();
  });

  test('an unknown id gets the same error response as from Engine.IO, for a poll and for an upgrade', async (t) => {
    const env = { SESSION_PROTOCOLS: 'socket.io', UNKNOWN_SESSION: 'reject' };
    const { ports } = await startTestSidecar(t, await startSocketIo(t), env);
    const path = '/socket.io/?EIO=4&sid=unknown&transport=';
    const url = `http://127.0.0.1:${ports.public}${path}`;
    const bySidecar = await fetch(`${url}polling`);
    const own = await startTestSidecar(t, await startSocketIo(t), {
      ...env,
      UNKNOWN_SESSION: 'serve',
    });
    const byApp = await fetch(`http://127.0.0.1:${own.ports.public}${path}polling`);
    assert.equal(bySidecar.status, byApp.status);
    assert.equal(bySidecar.headers.get('content-type'), byApp.headers.get('content-type'));
    const body = await bySidecar.text();
    assert.equal(body, await byApp.text());
    const socket = new WebSocket(`${url.replace('http', 'ws')}websocket`);
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, Incoming];
    assert.equal(response.statusCode, 400);
    assert.equal(String((await response.toArray())[0]), body);
    socket.on('error', () => undefined).terminate();
  });

  test('a client whose session is unknown opens a new one', async (t) => {
    const server = createServer();
    const sockets = attachSocketIo(t, server);
    const { ports } = await startTestSidecar(t, await serve(t, server), {
      SESSION_PROTOCOLS: 'socket.io',
    });
    const client = io(`http://127.0.0.1:${ports.public}`, {
      transports: ['polling'],
      reconnectionDelay: 1,
      reconnectionDelayMax: 1,
      forceNew: true,
    });
    t.after(() => client.close());
    const emitter = client as unknown as NodeJS.EventEmitter;
    await once(emitter, 'connect');
    const before = client.id;
    const engine = sockets.engine as unknown as {
      clients: Record<string, { close(discard: boolean): void }>;
    };
    const forgotten = Object.values(engine.clients);
    t.after(() => forgotten.forEach((connection) => connection.close(true)));
    // The app forgets its sessions, as after a restart.
    engine.clients = {};
    client.emit('echo', 'lost');
    await once(emitter, 'connect');
    assert.notEqual(client.id, before);
    assert.equal(await client.emitWithAck('echo', 'again'), 'again');
  });
});

/** A response of node:http. */
type Incoming = import('node:http').IncomingMessage;

describe('signalr', () => {
  const app: RequestListener = (req, res) => {
    if (req.url?.startsWith('/hub/negotiate') !== true) {
      res.end(req.url);
      return;
    }
    assert.equal(req.headers['accept-encoding'], 'identity');
    res.setHeader('content-type', 'application/json');
    res.end(
      '{"negotiateVersion":1,"connectionId":"public","connectionToken":"secret","availableTransports":[]}',
    );
  };

  test('a connection is replayed to the Machine that negotiated it', async (t) => {
    const [m1, m2] = await startTwo(t, (t) => serveApp(t, app), 'signalr');
    const negotiated = await call(m1, '/hub/negotiate?negotiateVersion=1', { method: 'POST' });
    const text = await negotiated.text();
    assert.equal(negotiated.headers.get('content-length'), String(text.length));
    assert.equal((JSON.parse(text) as { connectionToken: string }).connectionToken, 'secret');
    assert.equal(await (await call(m1, '/hub?id=secret')).text(), '/hub?id=secret');
    await assertReplayed(await call(m2, '/hub?id=secret'));
    assert.equal((await call(m1, '/hub?id=secret', { method: 'DELETE' })).status, 200);
    const afterwards = await call(m2, '/hub?id=public');
    assert.equal(afterwards.status, 200, 'the public id has no owner');
  });
});

describe('mcp', () => {
  const TASK =
    '{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t-1","status":"working"}}';
  const NEW = { 'mcp-protocol-version': '2026-07-28' };
  const CALL = {
    method: 'POST',
    headers: { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': 'a' },
    body: '{}',
  };
  const GET_TASK = {
    method: 'POST',
    headers: { ...NEW, 'mcp-method': 'tasks/get', 'mcp-name': 't-1' },
    body: '{}',
  };

  const asJson: RequestListener = (_req, res) => {
    res.setHeader('content-type', 'application/json').end(TASK);
  };
  const asStream: RequestListener = (_req, res) => {
    res.setHeader('content-type', 'text/event-stream');
    res.write('data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\ndata: ');
    setImmediate(() => res.end(`${TASK}\n\n`));
  };
  for (const [form, app] of [
    ['JSON', asJson],
    ['a stream', asStream],
  ] as const) {
    test(`a task that the app reveals in ${form} is requested from its Machine`, async (t) => {
      const [m1, m2] = await startTwo(t, (t) => serveApp(t, app), 'mcp');
      assert.ok((await (await call(m1, '/mcp', CALL)).text()).includes(TASK));
      assert.equal((await call(m1, '/mcp', GET_TASK)).status, 200);
      await assertReplayed(await call(m2, '/mcp', GET_TASK));
      const other = await call(m2, '/mcp', CALL);
      assert.equal(other.status, 200, 'any Machine serves a new call');
      await other.text();
    });
  }

  test('a compressed response passes through unchanged', async (t) => {
    const zipped = gzipSync(TASK);
    const app: RequestListener = (_req, res) => {
      res.setHeader('content-type', 'application/json').setHeader('content-encoding', 'gzip');
      res.end(zipped);
    };
    const [m1, m2] = await startTwo(t, (t) => serveApp(t, app), 'mcp');
    assert.equal(await (await call(m1, '/mcp', CALL)).text(), TASK);
    assert.equal(await m1.rowCount(), 0);
    assert.equal((await call(m2, '/mcp', GET_TASK)).status, 200);
  });
});

describe('path:REGEX', () => {
  const startSockJs: StartApp = async (t) => {
    const server = createServer();
    const echo = sockjs.createServer({ log: () => undefined, disconnect_delay: 2_000 });
    echo.on('connection', (connection) => {
      // SockJS ends the timers of a session that is not polled for `disconnect_delay`.
      const closed = once(connection, 'close');
      t.after(() => closed);
      connection.on('data', (message) => void connection.write(message));
    });
    echo.installHandlers(server, { prefix: '/echo' });
    return serve(t, server);
  };

  test('a SockJS session belongs to the Machine whose app opened it', async (t) => {
    const [m1, m2] = await startTwo(t, startSockJs, 'path:^/echo/[^/]+/([^/]+)/');
    const session = `/echo/000/${idPlacedOn('m1', ['m1', 'm2'])}`;
    const opened = await call(m1, `${session}/xhr`, { method: 'POST' });
    assert.equal(await opened.text(), 'o\n');
    await assertReplayed(await call(m2, `${session}/xhr`, { method: 'POST' }));
    const sent = await call(m1, `${session}/xhr_send`, { method: 'POST', body: '["hello"]' });
    assert.equal(sent.status, 204);
    const received = await call(m1, `${session}/xhr`, { method: 'POST' });
    assert.equal(await received.text(), 'a["hello"]\n');
  });
});

test('no log line shows a session id of the path', async (t) => {
  const written = Promise.withResolvers<undefined>();
  const lines: string[] = [];
  const { logger } = createMemoryLog((line) => {
    lines.push(JSON.stringify(line));
    written.resolve(undefined);
  });
  const app = await serveApp(t, (_req, res) => res.end());
  const env = { SESSION_PROTOCOLS: 'path:^/echo/[^/]+/([^/]+)/' };
  const { ports } = await startTestSidecar(t, app, env, { logger });
  await (await fetch(`http://127.0.0.1:${ports.public}/echo/000/secret/xhr`)).text();
  await written.promise;
  assert.match(lines.join(''), /"path":"\/echo\/000\/\*+\/xhr"/);
  assert.ok(!lines.join('').includes('secret'));
});

describe('query:NAME and header:NAME', () => {
  /** Accepts every id, and mints one in a header for `/open`. */
  const app: RequestListener = (req, res) => {
    if (req.url === '/open') res.setHeader('X-My-Id', 'minted');
    res.end(req.headers['x-my-id'] ?? req.url);
  };

  test('an id that the client mints belongs to its placement Machine, whichever Machine receives it first', async (t) => {
    const [m1, m2] = await startTwo(t, (t) => serveApp(t, app), 'query:hash,header:x-my-id');
    const ofQuery = `/?hash=${idPlacedOn('m1', ['m1', 'm2'], 'query')}`;
    const ofHeader = { headers: { 'x-my-id': idPlacedOn('m1', ['m1', 'm2'], 'header') } };
    await assertReplayed(await call(m2, ofQuery));
    await assertReplayed(await call(m2, '/', ofHeader));
    assert.equal(await (await call(m1, ofQuery)).text(), ofQuery);
    assert.equal(await (await call(m1, '/', ofHeader)).text(), ofHeader.headers['x-my-id']);
    await assertReplayed(await call(m2, ofQuery));
    await assertReplayed(await call(m2, '/', ofHeader));
  });

  test('an id that the app mints in the header is bound and hinted', async (t) => {
    const [m1, m2] = await startTwo(t, (t) => serveApp(t, app), 'query:hash,header:x-my-id');
    const headers = { 'x-my-id': (await call(m1, '/open')).headers.get('x-my-id') ?? '' };
    assert.deepEqual(headers, { 'x-my-id': 'minted~m1' });
    await assertReplayed(await call(m2, '/', { headers }));
    assert.equal(await (await call(m1, '/', { headers })).text(), 'minted');
  });
});

test('several protocols of one app work together', async (t) => {
  const startAll: StartApp = async (t) => {
    const server = createServer((req, res) => {
      if (req.url === '/mcp') res.setHeader('mcp-session-id', 'of-mcp');
      if (req.url === '/login') res.setHeader('set-cookie', 'sid=of-cookie; Path=/');
      res.end('from the app');
    });
    attachSocketIo(t, server);
    return serve(t, server);
  };
  const [m1, m2] = await startTwo(t, startAll, 'mcp,socket.io,cookie:sid');
  const opened = await call(m1, '/mcp', { method: 'POST' });
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' };
  const cookie = (await call(m1, '/login')).headers.get('set-cookie')?.split(';')[0] ?? '';
  const path = '/socket.io/?EIO=4&transport=polling';
  // Within the session of its cookie.
  const handshake = await (await call(m1, path, { headers: { cookie } })).text();
  const { sid } = JSON.parse(handshake.slice(1)) as { sid: string };
  assert.equal(await m1.rowCount(), 3);
  await assertReplayed(await call(m2, '/mcp', { headers: session }));
  await assertReplayed(await call(m2, '/', { headers: { cookie } }));
  await assertReplayed(await call(m2, `${path}&sid=${sid}`));
});

test('each protocol has its own error response', async (t) => {
  const app = await serveApp(t, (_req, res) => res.end());
  const protocols = 'mcp,socket.io,header:x-room,cookie:sid';
  const env = { SESSION_PROTOCOLS: protocols, UNKNOWN_SESSION: 'reject' };
  const { ports } = await startTestSidecar(t, app, env);
  const errorOf = async (path: string, headers: Record<string, string> = {}): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${ports.public}${path}`, { headers });
    return [response.status, response.headers.get('content-type'), await response.json()];
  };
  const error = { code: -32001, message: 'Session not found' };
  assert.deepEqual(await errorOf('/', { 'mcp-session-id': 'a' }), [
    404,
    'application/json',
    { jsonrpc: '2.0', error, id: null },
  ]);
  assert.deepEqual(await errorOf('/?sid=a'), [
    400,
    'application/json',
    { code: 1, message: 'Session ID unknown' },
  ]);
  const problem = { type: 'about:blank', title: 'Session not found', status: 404 };
  assert.deepEqual(await errorOf('/', { 'x-room': 'a' }), [
    404,
    'application/problem+json',
    problem,
  ]);
  const url = `http://127.0.0.1:${ports.public}`;
  const page = await fetch(url, { headers: { cookie: 'sid=a' } });
  assert.equal(page.status, 200, 'an unknown cookie is for the app to judge');
});
