/** WebSockets: rooms of the user's own, and apps that take nothing else. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import { test, type TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import { detect, probesFor } from '../../src/probe/detect.ts';
import { createOwnRequestProbe } from '../../src/probe/own-request.ts';
import { lossesOf } from './calls.ts';
import { startTwoMachines } from './machines.ts';

const ROOM = { call: { method: 'WS', target: '/rooms/{session}' } };

interface Seen {
  readonly url: string;
  readonly closed: Promise<unknown>;
}

function createRooms(seen: Seen[] = [], listener?: RequestListener): Server {
  const server = listener ? createServer(listener) : createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, request) => {
    const closed = new Promise((resolve) => socket.once('close', resolve));
    seen.push({ url: request.url ?? '', closed });
  });
  return server;
}

function createAppWithStatus(status: number): RequestListener {
  return (_request, response) => void response.writeHead(status).end('no room here');
}

test('a request of the user: each call enters the room of its session, and leaves it', async (t) => {
  const seen: Seen[] = [];
  const { single } = await startTwoMachines(t, { createApp: () => createRooms(seen) });
  const losses = await lossesOf(createOwnRequestProbe(ROOM), single, 2);
  assert.deepEqual(losses, [undefined, undefined]);
  const urls = new Set(seen.map(({ url }) => url));
  assert.equal(urls.size, 1);
  assert.match([...urls][0] ?? '', /^\/rooms\/[-0-9a-f]{36}$/);
  await Promise.all(seen.map(({ closed }) => closed));
});

for (const [status, why] of [
  [200, 'the app answers 200 in place of a WebSocket'],
  [404, 'the app answers 404 no room here'],
] as const) {
  test(`a request of the user: ${status} in place of a WebSocket opens no session`, async (t) => {
    const createApp = (): RequestListener => createAppWithStatus(status);
    const { single } = await startTwoMachines(t, { createApp });
    const opening = await createOwnRequestProbe(ROOM).open(single);
    assert.ok(opening.kind === 'refused');
    assert.equal(opening.why, why);
  });
}

/** Where the app accepts a WebSocket although no protocol was found. */
async function webSocketAt(
  t: TestContext,
  createApp: () => RequestListener | Server,
  { path, timeoutMs = 5_000 }: { readonly path?: string; readonly timeoutMs?: number } = {},
): Promise<string | undefined> {
  const { single } = await startTwoMachines(t, { createApp, timeoutMs });
  const detection = await detect(single, probesFor(path));
  assert.ok(detection.kind === 'unknown', JSON.stringify(detection));
  return detection.webSocketAt;
}

test('an app of WebSockets that no probe knows is recognised as that', async (t) => {
  const createApp = (): Server => createRooms([], createAppWithStatus(200));
  assert.equal(await webSocketAt(t, createApp), '/');
  assert.equal(await webSocketAt(t, createApp, { path: '/live' }), '/live');
  assert.equal(await webSocketAt(t, () => createAppWithStatus(200)), undefined);
});

test('an app that responds to nothing but WebSockets is asked for all else at the same time', async (t) => {
  let inFlight = 0;
  const most: number[] = [];
  const createApp = (): Server =>
    createRooms([], ({ socket }) => {
      most.push((inFlight += 1));
      socket.once('close', () => (inFlight -= 1));
    });
  assert.equal(await webSocketAt(t, createApp, { timeoutMs: 300 }), '/');
  assert.deepEqual([most[0], Math.max(...most) > 5], [1, true]);
});
