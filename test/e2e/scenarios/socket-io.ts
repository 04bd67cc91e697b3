/**
 * Socket.IO's own client, from its first poll on; every request of a session must reach one
 * process.
 */
import assert from 'node:assert/strict';
import { io, type Socket } from 'socket.io-client';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';
import { retryWhileUnavailable, RetryLaterError } from '../support/retry-later.ts';

/** A call without a response by then has lost it, in ms. */
const CALL_TIMEOUT_MS = 60_000;
const CALLS_WHILE_POLLING = 3;
const CALLS = 8;

/** Polls first, and continues over a WebSocket, as clients do by default. */
export function runSocketIoScenario(target: Target): Promise<void> {
  return retryWhileUnavailable(() => runWith(target, ['polling', 'websocket']));
}

export function runSocketIoPollingScenario(target: Target): Promise<void> {
  return retryWhileUnavailable(() => runWith(target, ['polling']));
}

async function runWith({ url }: Target, transports: string[]): Promise<void> {
  // A lost session must not be hidden by a new one.
  const socket = io(url, { transports, reconnection: false, forceNew: true, autoConnect: false });
  const lost = untilLost(socket);
  try {
    await Promise.race([converse(socket, transports), lost]);
  } finally {
    socket.disconnect();
  }
}

async function converse(socket: Socket, transports: readonly string[]): Promise<void> {
  const upgraded = transports.includes('websocket') ? untilUpgraded(socket) : undefined;
  socket.connect();
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
}

async function call(socket: Socket): Promise<Counted> {
  const response: unknown = await socket.timeout(CALL_TIMEOUT_MS).emitWithAck('count');
  return Counted.parse(response);
}

function untilUpgraded(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.io.once('open', () => {
      socket.io.engine.once('upgrade', () => resolve());
      // The client does not report the status of a rejected WebSocket.
      socket.io.engine.once('upgradeError', ({ message }) => reject(new RetryLaterError(message)));
    });
  });
}

/** Rejects, if at all, with the reason why the session is lost. */
function untilLost(socket: Socket): Promise<never> {
  return new Promise((_, reject) => {
    socket.once('connect_error', (error) => reject(lossOf(error)));
    socket.once('disconnect', (reason, details) => {
      reject(details instanceof Error ? lossOf(details) : new Error(reason));
    });
  });
}

/** The client's error for a failed poll has the status as its description. */
function lossOf(error: Error): Error {
  const status = 'description' in error ? error.description : undefined;
  return status === 503 ? new RetryLaterError(error.message, { cause: error }) : error;
}
