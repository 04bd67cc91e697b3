/**
 * Socket.IO 2's own client. A poll is always open, and its end is the end of the session: before the
 * disturbance and after it there are sessions of their own.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Counted } from '../../support/mcp-client.ts';
import { RetryLaterError, retryWhileUnavailable } from '../../support/retry-later.ts';
import type { Target } from '../../support/target.ts';
import { withJsonpDocument } from './jsonp-document.ts';

/** The package has no types. */
const io = createRequire(import.meta.url)('socket.io-client-v2') as (
  url: string,
  options: object,
) => Socket;

const PATH = '/socket.io-v2/';
const JSONP_PATHS = ['', '/jsonp-1', '/jsonp-2', '/jsonp-3', '/jsonp-4'];
const CALLS_WHILE_POLLING = 3;
const CALLS = 6;

interface Options {
  readonly path: string;
  readonly transports: readonly ('polling' | 'websocket')[];
  readonly forceJSONP?: boolean;
}

export function runSocketIoV2(target: Target, midway: () => Promise<void>): Promise<void> {
  return runAround(target, { path: PATH, transports: ['polling'] }, midway);
}

export function runSocketIoV2Upgrade(target: Target, midway: () => Promise<void>): Promise<void> {
  return runAround(target, { path: PATH, transports: ['polling', 'websocket'] }, midway);
}

/** Each kind of quotes and media types. */
export function runSocketIoV2Jsonp(target: Target, midway: () => Promise<void>): Promise<void> {
  return withJsonpDocument(async () => {
    for (const [index, prefix] of JSONP_PATHS.entries()) {
      const isLast = index === JSONP_PATHS.length - 1;
      const disturb = isLast ? midway : () => Promise.resolve();
      const options = { transports: ['polling'], forceJSONP: true } as const;
      await runAround(target, { ...options, path: prefix + PATH }, disturb);
    }
  });
}

async function runAround(
  target: Target,
  options: Options,
  midway: () => Promise<void>,
): Promise<void> {
  await retryWhileUnavailable(() => runOnce(target, options));
  await midway();
  await retryWhileUnavailable(() => runOnce(target, options));
}

async function runOnce({ url }: Target, options: Options): Promise<void> {
  // A lost session must not be hidden by a new one.
  const socket = io(url, { ...options, reconnection: false, forceNew: true, autoConnect: false });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect_error', (error) => reject(lossOf(error)));
      socket.once('disconnect', (reason) => reject(new Error(String(reason))));
      converse(socket, options, reject).then(resolve, reject);
    });
  } finally {
    socket.close();
  }
}

async function converse(
  socket: Socket,
  { path, transports, forceJSONP = false }: Options,
  onLoss: (error: Error) => void,
): Promise<void> {
  socket.open();
  const { engine } = socket.io;
  engine.once('error', (error) => onLoss(lossOf(error)));
  const upgraded = transports.includes('websocket') ? untilUpgraded(engine) : undefined;
  assert.equal('index' in engine.transport, forceJSONP, 'the client polls by JSONP');
  const { machine, pid } = await call(socket);
  for (let count = 2; count <= CALLS_WHILE_POLLING; count += 1) {
    assert.deepEqual(await call(socket), { machine, pid, count }, path);
  }
  await upgraded;
  for (let count = CALLS_WHILE_POLLING + 1; count <= CALLS; count += 1) {
    assert.deepEqual(await call(socket), { machine, pid, count }, path);
  }
  assert.equal(engine.transport.name, transports.at(-1));
}

function untilUpgraded(engine: Engine): Promise<void> {
  return new Promise((resolve, reject) => {
    engine.once('upgrade', () => resolve());
    // The client does not report the status of a rejected WebSocket.
    engine.once('upgradeError', (error) => reject(new RetryLaterError(String(error))));
  });
}

function call(socket: Socket): Promise<Counted> {
  return new Promise((resolve, reject) => {
    socket.emit('count', (response) => {
      const counted = Counted.safeParse(response);
      if (counted.success) resolve(counted.data);
      else reject(counted.error);
    });
  });
}

/** The client's error for a failed poll has the status as its description. */
function lossOf(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const status = 'description' in error ? error.description : undefined;
  return status === 503 ? new RetryLaterError(error.message, { cause: error }) : error;
}

/** The parts of the client that are used here. */
interface Socket {
  readonly io: { readonly engine: Engine };
  open(): void;
  close(): void;
  emit(event: 'count', onResponse: (response: unknown) => void): void;
  once(event: 'connect_error' | 'disconnect', listener: (reason: unknown) => void): void;
}

interface Engine {
  readonly transport: { readonly name: string };
  once(event: 'error' | 'upgrade' | 'upgradeError', listener: (error: unknown) => void): void;
}
