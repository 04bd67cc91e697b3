import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import {
  sendRequest,
  naming,
  replaying,
  startMachine,
  startTestEdge,
  type ScriptedMachine,
} from './support.ts';

/** Accepts WebSockets and echoes, after its id; other requests get `listener`. */
async function startSocketMachine(
  t: TestContext,
  id: string,
  listener: RequestListener = naming(id),
): Promise<ScriptedMachine> {
  const machine = await startMachine(t, id, listener);
  const server = new WebSocketServer({ server: machine.server });
  server.on('connection', (socket) => {
    socket.on('message', (message: Buffer) => socket.send(`${id}:${message.toString()}`));
  });
  return machine;
}

/** Responds to upgrades with an ordinary response. */
async function startRejectingMachine(
  t: TestContext,
  id: string,
  response: string,
): Promise<ScriptedMachine> {
  const machine = await startMachine(t, id, naming(id));
  machine.server.on('upgrade', (_request, socket: Socket) => socket.end(response));
  return machine;
}

function socketUrl(url: string, path = '/'): string {
  return `${url.replace('http', 'ws')}${path}`;
}

test('a WebSocket is connected to a Machine, both ways', async (t) => {
  const edge = await startTestEdge(t, [await startSocketMachine(t, 'a1')]);
  const socket = new WebSocket(socketUrl(edge.url, '/rpc?session_id=secret'));
  await once(socket, 'open');
  socket.send('x'.repeat(200_000));
  const [echo] = (await once(socket, 'message')) as [Buffer];
  assert.equal(echo.length, 200_003);
  const [record] = edge.records;
  assert.deepEqual([record?.status, record?.path, record?.served], [101, '/rpc', 'a1']);
  socket.close();
  await once(socket, 'close');
});

test('a handshake with fly-replay as its response goes to the other Machine', async (t) => {
  const replay = 'HTTP/1.1 307 Replay\r\nfly-replay: instance=b2\r\ncontent-length: 0\r\n\r\n';
  const a = await startRejectingMachine(t, 'a1', replay);
  const b = await startSocketMachine(t, 'b2');
  const edge = await startTestEdge(t, [a, b]);
  const socket = new WebSocket(socketUrl(edge.url));
  await once(socket, 'open');
  socket.send('hi');
  assert.equal(String((await once(socket, 'message'))[0]), 'b2:hi');
  assert.deepEqual([edge.records[0]?.first, edge.records[0]?.replays], ['a1', 1]);
  socket.close();
  await once(socket, 'close');
});

test('a rejection is relayed with its body', async (t) => {
  const rejection = 'HTTP/1.1 401 Unauthorized\r\nX-Why: key\r\nContent-Length: 4\r\n\r\nnope';
  const edge = await startTestEdge(t, [await startRejectingMachine(t, 'a1', rejection)]);
  const socket = connect(Number(new URL(edge.url).port), '127.0.0.1');
  socket.write(HANDSHAKE);
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString()));
  await once(socket, 'close');
  assert.match(text, /^HTTP\/1\.1 401 Unauthorized\r\nX-Why: key\r\n/);
  assert.ok(text.endsWith('\r\n\r\nnope'));
});

test('an unreachable owner of a handshake is an error of the edge', async (t) => {
  const replay = 'HTTP/1.1 307 Replay\r\nfly-replay: instance=b2\r\ncontent-length: 0\r\n\r\n';
  const edge = await startTestEdge(t, [await startRejectingMachine(t, 'a1', replay)]);
  const socket = new WebSocket(socketUrl(edge.url));
  const [error] = (await once(socket, 'error')) as [Error];
  assert.match(error.message, /502/);
  assert.equal(edge.records[0]?.error, 'PR02');
});

test('a half-close passes through, and data in the other direction still flows', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  machine.server.on('upgrade', (_request, socket: Socket) => {
    socket.write(ACCEPTED);
    let received = '';
    socket.on('data', (chunk) => (received += chunk.toString()));
    socket.once('end', () => socket.end(`got ${received}`));
  });
  const edge = await startTestEdge(t, [machine]);
  const socket = connect({
    port: Number(new URL(edge.url).port),
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  socket.write(HANDSHAKE);
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString()));
  await once(socket, 'data');
  socket.end('all of it');
  await once(socket, 'end');
  assert.ok(text.endsWith('\r\n\r\ngot all of it'));
});

test('a reset passes through', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  const closed = Promise.withResolvers<undefined>();
  machine.server.on('upgrade', (_request, socket: Socket) => {
    socket.write(ACCEPTED);
    socket.on('error', () => undefined);
    socket.once('close', () => closed.resolve(undefined));
  });
  const edge = await startTestEdge(t, [machine]);
  const socket = connect(Number(new URL(edge.url).port), '127.0.0.1');
  socket.write(HANDSHAKE);
  await once(socket, 'data');
  socket.resetAndDestroy();
  await closed.promise;
});

test('an upgrade to another protocol than WebSocket is an ordinary request', async (t) => {
  const edge = await startTestEdge(t, [await startMachine(t, 'a1', naming('a1'))]);
  const headers = { connection: 'upgrade', upgrade: 'h2c' };
  assert.equal((await sendRequest(edge.url, { method: 'POST', headers, body: 'x' })).body, 'a1');
});

test('a replay by an ordinary request works with WebSockets', async (t) => {
  const a = await startSocketMachine(t, 'a1', replaying('instance=b2'));
  const b = await startSocketMachine(t, 'b2');
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url)).body, 'b2');
});

const ACCEPTED = [
  'HTTP/1.1 101 Switching Protocols',
  'Connection: Upgrade',
  'Upgrade: websocket',
  '\r\n',
].join('\r\n');

const HANDSHAKE = [
  'GET / HTTP/1.1',
  'Host: shop.example',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  '\r\n',
].join('\r\n');
