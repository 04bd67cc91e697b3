/** Socket.IO's own client, from its first poll on; every request of a session has to reach one process. */
import assert from 'node:assert/strict';
import { io, type Socket } from 'socket.io-client';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';

/** A call that takes longer is one that was lost, in ms. */
const CALL_TIMEOUT_MS = 60_000;
const CALLS_WHILE_POLLING = 3;
const CALLS = 8;

/** Polls first, and goes on over a WebSocket, as clients do by default. */
export function tellSocketIoStory(target: Target): Promise<void> {
  return tellWith(target, ['polling', 'websocket']);
}

export function tellSocketIoPollingStory(target: Target): Promise<void> {
  return tellWith(target, ['polling']);
}

async function tellWith({ url }: Target, transports: string[]): Promise<void> {
  // A session that was lost is not to be hidden by a new one.
  const socket = io(url, { transports, reconnection: false, forceNew: true, autoConnect: false });
  const upgraded = transports.includes('websocket') ? untilUpgraded(socket) : undefined;
  await connect(socket);
  try {
    const { machine, pid } = await call(socket);
    for (let count = 2; count <= CALLS_WHILE_POLLING; count += 1) {
      assert.deepEqual(await call(socket), { machine, pid, count });
    }
    await upgraded;
    for (let count = CALLS_WHILE_POLLING + 1; count <= CALLS; count += 1) {
      assert.deepEqual(await call(socket), { machine, pid, count });
    }
    const news = new Promise((resolve) => socket.once('news', resolve));
    socket.emit('announce');
    assert.deepEqual(await news, { machine, pid, count: CALLS });
    assert.equal(socket.io.engine.transport.name, transports.at(-1));
    assert.ok(socket.connected, 'its session was not lost');
  } finally {
    socket.disconnect();
  }
}

async function connect(socket: Socket): Promise<void> {
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  socket.connect();
  await connected;
}

function untilUpgraded(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.io.once('open', () => socket.io.engine.once('upgrade', () => resolve()));
  });
}

async function call(socket: Socket): Promise<Counted> {
  const lost = new Promise<never>((_, reject) =>
    socket.once('disconnect', (reason) => reject(new Error(`disconnected: ${reason}`))),
  );
  const answer: unknown = await Promise.race([
    socket.timeout(CALL_TIMEOUT_MS).emitWithAck('count'),
    lost,
  ]);
  return Counted.parse(answer);
}
