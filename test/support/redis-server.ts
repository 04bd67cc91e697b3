/** A Redis server for one test, on a free port of this computer, that can be killed and frozen. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createClient } from 'redis';
import { freePort } from './free-port.ts';
import { findProgram, type Needed } from './needed.ts';
import { stoppedAfter, type Ending, type Stops } from './stopped-after.ts';

/** For `skipUnlessFound`. */
export const neededForRedis: Needed<string> = {
  what: 'the Redis store',
  found: findProgram(['redis-server', 'valkey-server']),
  missing: 'redis-server or valkey-server on the PATH',
  howToGet: 'apt-get install redis-server',
};

export interface RedisServer {
  readonly port: number;
  /** The directory of its files. */
  readonly directory: string;
  /** With the password, if there is one. */
  readonly url: string;
  /** Sends one command through its own connection. */
  command(...command: string[]): Promise<unknown>;
  /** Kills it immediately, as a crash does. */
  kill(): Promise<void>;
  /** Freezes it; connections stay open. */
  freeze(): void;
  thaw(): void;
  /** Starts it again after a kill: on the same port, with its files, and with these options too. */
  start(...more: string[]): Promise<void>;
}

interface RedisServerOptions {
  /** The path of the server, as in {@link neededForRedis}. */
  readonly program: string;
  /** As on its command line: `--maxmemory`, `1mb`. */
  readonly options?: readonly string[];
  readonly password?: string;
  /** Whether every write is on the disk before it is acknowledged; otherwise no write ever is. */
  readonly isDurable?: boolean;
}

const START_MS = 10_000;
const POLL_MS = 10;
/** Another process may take a free port before the server does. */
const ATTEMPTS = 5;

/** The server is killed after the test, or the file if `t` is the module `node:test`. */
export function startRedisServer(t: Ending, options: RedisServerOptions): Promise<RedisServer> {
  return stoppedAfter(t, (stops) => start(options, stops));
}

async function start(options: RedisServerOptions, stops: Stops): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-redis-'));
  let child: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    if (!child || hasEnded(child)) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  stops.push(async () => {
    await kill();
    await rm(directory, { recursive: true, force: true });
  });
  const port = await startSomewhere(async (candidate) => {
    child = await run(options, directory, candidate, []);
  });
  const userInfo = options.password === undefined ? '' : `:${options.password}@`;
  const url = `redis://${userInfo}127.0.0.1:${port}`;
  return {
    port,
    directory,
    url,
    kill,
    command: (...command) => sendAlone(url, command),
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    start: async (...more) => {
      assert.ok(!child || hasEnded(child), 'the server runs already');
      child = await run(options, directory, port, more);
    },
  };
}

async function startSomewhere(start: (port: number) => Promise<void>): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      await start(port);
      return port;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

/** Resolves once the server responds, even with an error such as LOADING. */
async function run(
  { program, options = [], password, isDurable = false }: RedisServerOptions,
  directory: string,
  port: number,
  more: readonly string[],
): Promise<ChildProcess> {
  const args = [
    ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', ''],
    ...['--appendonly', isDurable ? 'yes' : 'no', '--appendfsync', 'always'],
    ...(password === undefined ? [] : ['--requirepass', password]),
    ...[...options, ...more],
  ];
  const child = spawn(program, args, { stdio: 'ignore' });
  const deadline = performance.now() + START_MS;
  while (!(await isResponding(port))) {
    if (hasEnded(child)) throw new Error(`${program} has ended: ${args.join(' ')}`);
    assert.ok(performance.now() < deadline, `${program} does not answer on port ${port}`);
    await pause(POLL_MS);
  }
  return child;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function isResponding(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    socket.write('PING\r\n');
    const [reply] = (await once(socket, 'data')) as [Buffer];
    return /^[+-]/.test(reply.toString());
  } catch {
    // Nothing listens yet.
    return false;
  } finally {
    socket.destroy();
  }
}

async function sendAlone(url: string, command: string[]): Promise<unknown> {
  const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false } });
  // Errors are reported by the promises too.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await client.sendCommand(command);
  } finally {
    client.destroy();
  }
}
