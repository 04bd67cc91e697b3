/** Sessions of one Machine, end to end: discovered, hinted, and stripped of their hints again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { startTurnClock } from '../support/clock.ts';
import { openClient } from '../support/raw.ts';
import { serve, serveApp, startTestSidecar } from '../support/sidecar.ts';
import { createServer } from 'node:http';

type Handle = (req: IncomingMessage, res: ServerResponse) => void;

async function urlOf(
  t: TestContext,
  app: Handle,
  env: Record<string, string> = {},
): Promise<string> {
  const { ports } = await startTestSidecar(t, await serveApp(t, app), env);
  return `http://127.0.0.1:${ports.public}`;
}

/** Mints `abc` for a request without an id, and echoes the request. */
const echoApp: Handle = (req, res) => {
  const id = req.headers['mcp-session-id'];
  res.writeHead(200, { 'mcp-session-id': id ?? 'abc' });
  res.end(JSON.stringify({ url: req.url, id, cookie: req.headers.cookie }));
};

describe('a session of an app that mints ids', () => {
  test('reaches the client with the hint of its Machine, and the app without it', async (t) => {
    const url = await urlOf(t, echoApp);
    const opened = await fetch(url, { method: 'POST' });
    assert.equal(opened.headers.get('mcp-session-id'), 'abc~m1');
    const called = await fetch(url, { headers: { 'mcp-session-id': 'abc~m1' } });
    assert.equal(((await called.json()) as { id: string }).id, 'abc');
  });

  test('reaches the client unchanged if SESSION_ID_HINTS is false', async (t) => {
    const url = await urlOf(t, echoApp, { SESSION_ID_HINTS: 'false' });
    const opened = await fetch(url, { method: 'POST' });
    assert.equal(opened.headers.get('mcp-session-id'), 'abc');
  });

  test('returns 503 in place of the 404 of the app while a peer is unresponsive', async (t) => {
    const url = await urlOf(t, (_req, res) => res.writeHead(404).end(), {
      FLEET: 'm2@127.0.0.1:9',
    });
    const called = await fetch(url, { headers: { 'mcp-session-id': 'of-another-machine' } });
    assert.equal(called.status, 503);
    assert.equal(called.headers.get('retry-after'), '1');
  });

  test('returns the 404 of the app unchanged if no Machine knows it', async (t) => {
    const url = await urlOf(t, (_req, res) => res.writeHead(404).end('gone'));
    const called = await fetch(url, { headers: { 'mcp-session-id': 'unknown' } });
    assert.equal(called.status, 404);
    assert.equal(await called.text(), 'gone');
  });

  test('returns 400 for two different ids under one name of a listed protocol', async (t) => {
    const env = { SESSION_PROTOCOLS: 'mcp' };
    const { ports } = await startTestSidecar(t, await serveApp(t, echoApp), env);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: a\r\nMcp-Session-Id: b\r\n\r\n');
    const text = await client.until((all) => all.includes('two different'));
    assert.match(text, /^HTTP\/1\.1 400 /);
  });

  test('of the old HTTP+SSE transport is discovered in its endpoint event, hinted, and stripped again', async (t) => {
    const url = await urlOf(t, (req, res) => {
      if (req.method === 'POST') {
        res.end(req.url);
        return;
      }
      assert.equal(req.headers['accept-encoding'], 'identity');
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write('event: endpoint\r\nda');
      setImmediate(() => res.write('ta: /messages/?session_id=0123abcd\r\n\r\n'));
    });
    const response = await fetch(`${url}/sse`, { headers: { accept: 'text/event-stream' } });
    const reader = (response.body ?? assert.fail()).getReader();
    let text = '';
    while (!text.includes('\r\n\r\n')) {
      const { value } = (await reader.read()) as { value?: Uint8Array };
      text += Buffer.from(value ?? []).toString();
    }
    assert.equal(text, 'event: endpoint\r\ndata: /messages/?session_id=0123abcd~m1\r\n\r\n');
    const posted = await fetch(`${url}/messages/?session_id=0123abcd~m1`, { method: 'POST' });
    assert.equal(await posted.text(), '/messages/?session_id=0123abcd');
    await reader.cancel();
  });

  test('in a cookie is hinted only in set-cookie, with unchanged attributes', async (t) => {
    const url = await urlOf(
      t,
      (req, res) => {
        res.setHeader('set-cookie', ['sid=abc; Path=/; HttpOnly', 'other=1']);
        res.end(req.headers.cookie ?? 'none');
      },
      { SESSION_PROTOCOLS: 'cookie:sid' },
    );
    const opened = await fetch(url);
    assert.deepEqual(opened.headers.getSetCookie(), ['sid=abc~m1; Path=/; HttpOnly', 'other=1']);
    const called = await fetch(url, { headers: { cookie: 'a=b; sid=abc~m1; c=d' } });
    assert.equal(await called.text(), 'a=b; sid=abc; c=d');
  });
});

describe('a WebSocket', () => {
  async function startSocketApp(t: TestContext): Promise<number> {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, req) => {
      socket.send(`at ${req.url ?? ''}`);
      socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
    });
    return serve(t, server);
  }

  test('is piped to the app in both directions', async (t) => {
    const { ports } = await startTestSidecar(t, await startSocketApp(t));
    const socket = new WebSocket(`ws://127.0.0.1:${ports.public}/rpc?session_id=abc&x=1`);
    t.after(() => socket.terminate());
    const [first] = (await once(socket, 'message')) as [Buffer];
    assert.equal(String(first), 'at /rpc?session_id=abc&x=1');
    const large = Buffer.alloc(3_000_000, 'x');
    socket.send(large);
    const [echoed] = (await once(socket, 'message')) as [Buffer];
    assert.ok(echoed.equals(large));
    socket.close(4001, 'enough');
    const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
    assert.equal(code, 4001);
    assert.equal(String(reason), 'enough');
  });

  test('that the app rejects gets the complete response, and the connection does not become a tunnel', async (t) => {
    const requests: string[] = [];
    const app = createServer((req, res) => {
      requests.push(req.url ?? '');
      res.end();
    });
    app.on('upgrade', (_req, socket) => {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nX-A: b\r\n\r\nnot you');
    });
    const { ports } = await startTestSidecar(t, await serve(t, app));
    const client = await openClient(t, ports.public);
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n' +
        'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n',
    );
    const text = await client.untilClosed();
    assert.match(text, /^HTTP\/1\.1 403 Forbidden\r\n/);
    assert.match(text, /X-A: b\r\n/);
    assert.ok(text.endsWith('\r\n\r\nnot you'));
    assert.deepEqual(requests, []);
  });

  test('that the client aborts is aborted at the app', async (t) => {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    const closed = Promise.withResolvers<number>();
    sockets.on('connection', (socket) => socket.on('close', (code) => closed.resolve(code)));
    const { ports } = await startTestSidecar(t, await serve(t, server));
    const socket = new WebSocket(`ws://127.0.0.1:${ports.public}/`);
    await once(socket, 'open');
    socket.terminate();
    assert.equal(await closed.promise, 1006);
  });

  test('does not delay the stop of its sidecar', { timeout: 10_000 }, async (t) => {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    t.after(() => sockets.clients.forEach((socket) => socket.terminate()));
    const sidecar = await startTestSidecar(t, await serve(t, server));
    const socket = new WebSocket(`ws://127.0.0.1:${sidecar.ports.public}/`);
    t.after(() => socket.terminate());
    await once(socket, 'open');
    const closed = once(socket, 'close');
    await sidecar.stop();
    assert.equal((await closed)[0], 1006);
  });

  test('that the app aborts is aborted at the client', async (t) => {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => socket.terminate());
    const { ports } = await startTestSidecar(t, await serve(t, server));
    const socket = new WebSocket(`ws://127.0.0.1:${ports.public}/`);
    const [code] = (await once(socket, 'close')) as [number];
    assert.equal(code, 1006);
  });
});

test('a response during a drain closes its connection, so that the next request goes elsewhere', async (t) => {
  const arrived = Promise.withResolvers<ServerResponse>();
  const app = await serveApp(t, (_req, res) => arrived.resolve(res));
  const sidecar = await startTestSidecar(
    t,
    app,
    { DRAIN_TIMEOUT_MS: '10000' },
    { clock: startTurnClock(t) },
  );
  const waiting = fetch(`http://127.0.0.1:${sidecar.ports.public}/`);
  const appResponse = await arrived.promise;
  const drained = sidecar.drain();
  appResponse.end('late');
  const response = await waiting;
  assert.equal(response.headers.get('connection'), 'close');
  assert.equal(await response.text(), 'late');
  await drained;
});
