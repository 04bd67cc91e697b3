/**
 * Redis stores for tests, the commands that they send, and a proxy to their server that can connect
 * elsewhere.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { Binding, MachineId } from '../../src/session.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/store/redis/redis.ts';
import type { SessionStore, StoreError } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

/** The system clock without time limits: these tests do not measure how busy the computer is. */
const clockWithoutTimeouts: Clock = { ...systemClock, after: () => () => undefined };

export interface Watched {
  readonly store: SessionStore;
  /** The errors that it reported, as in `passing: the connection failed: …`. */
  readonly errors: string[];
  /** How often a connection was abandoned. */
  readonly disruptions: () => number;
}

export async function openRedis(
  t: TestContext,
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<SessionStore> {
  const store = await openRedisStore({
    url,
    namespace: 'test',
    clock: clockWithoutTimeouts,
    limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
    random: Math.random,
    ...options,
  });
  t.after(() => store.close());
  return store;
}

export async function openWatched(
  t: TestContext,
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<Watched> {
  const errors: string[] = [];
  let disruptions = 0;
  const store = await openRedis(t, url, {
    onError: ({ code, message }: StoreError) => errors.push(`${code}: ${message}`),
    onDisrupted: () => (disruptions += 1),
    ...options,
  });
  return { store, errors, disruptions: () => disruptions };
}

const TTL_MS = 60_000;

/** A binding of a session that its app created. */
export function claim(
  store: SessionStore,
  name: string,
  changes: { readonly machine?: MachineId; readonly ttlMs?: number } = {},
): Promise<Binding> {
  const session = { key: keyOf(name), machine: machineId('a1'), ttlMs: TTL_MS };
  return store.claim({ ...session, origin: 'learned', ...changes });
}

export async function ownerOf(store: SessionStore, name: string): Promise<string> {
  const found = await store.lookup(keyOf(name));
  return typeof found === 'string' ? found : found.machine;
}

/** A TCP proxy to a server whose target can change, as a server's name can. */
interface Gate {
  readonly url: string;
  readonly connections: ReadonlySet<Socket>;
  /** The number of connections so far. */
  count(): number;
  /** The target of the next connections; `undefined`: each is closed immediately. */
  leadTo(port: number | undefined): void;
}

/** Closed after the test. */
export async function openGate(t: TestContext, port: number | undefined): Promise<Gate> {
  let target = port;
  let count = 0;
  const connections = new Set<Socket>();
  const server: Server = createServer((socket) => {
    count += 1;
    connections.add(socket);
    socket.once('close', () => connections.delete(socket)).on('error', () => undefined);
    if (target === undefined) {
      socket.destroy();
      return;
    }
    const onward = connect(target, '127.0.0.1').on('error', () => socket.destroy());
    socket.pipe(onward).pipe(socket);
    socket.once('close', () => onward.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections,
    count: () => count,
    leadTo: (next) => (target = next),
  };
}

const POLL_MS = 10;
const TIMEOUT_MS = 15_000;

/** For effects of other processes, which take their own time. */
export async function eventually(
  what: string,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `not so after ${TIMEOUT_MS} ms: ${what}`);
    await systemClock.sleep(POLL_MS);
  }
}
