/**
 * A Postgres server for one test, on a free port of this computer, that can be killed and frozen.
 */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from './free-port.ts';
import { findProgram, type Needed } from './needed.ts';
import { stoppedAfter, type Ending, type Stops } from './stopped-after.ts';

/** For `skipUnlessFound`: the directory of the server's programs. */
export const neededForPostgres: Needed<string> = {
  what: 'the Postgres store',
  found: findPrograms(),
  missing: 'initdb on the PATH or in /usr/lib/postgresql/*/bin',
  howToGet: 'apt-get install postgresql',
};

export interface PostgresServer {
  readonly port: number;
  /** With user and password. */
  url(database?: string): string;
  /** Creates an empty database; returns its name. */
  createDatabase(): Promise<string>;
  /** Runs SQL on its own connection, several statements in one transaction. */
  run(sql: string, database?: string): Promise<readonly Record<string, unknown>[]>;
  /** A connection that is closed after the test; for a session that outlives a statement. */
  connect(database?: string): Promise<pg.Client>;
  /** Kills all of its processes at once, as a crash of the machine does. */
  kill(): Promise<void>;
  /** Freezes all of its processes; connections stay open. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /**
   * Starts it again after a kill: on the same port, with its files, and with these settings too.
   */
  start(...more: string[]): Promise<void>;
}

interface PostgresServerOptions {
  /** As in {@link neededForPostgres}. */
  readonly programs: string;
  /** `name=value`, as in postgresql.conf. */
  readonly settings?: readonly string[];
  /** Whether every commit is on the disk before it is acknowledged. */
  readonly isDurable?: boolean;
}

const POSTGRES_USER = 'fly';
/** With all characters that have a meaning in a URL. */
const POSTGRES_PASSWORD = 's3cret:/?#@%';

const START_MS = 30_000;
/** Another process may take a free port before the server does. */
const ATTEMPTS = 5;
const READY = 'ready to accept connections';

const runProgram = promisify(execFile);

/** The server is killed after the test, or the file if `t` is the module `node:test`. */
export function startPostgresServer(
  t: Ending,
  options: PostgresServerOptions,
): Promise<PostgresServer> {
  return stoppedAfter(t, (stops) => start(options, stops));
}

async function start(options: PostgresServerOptions, stops: Stops): Promise<PostgresServer> {
  const { programs } = options;
  const owner = await findOwner();
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-postgres-'));
  const clients: pg.Client[] = [];
  let server: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    if (server) await killAll(server);
  };
  stops.push(async () => {
    await Promise.all(clients.map((client) => client.end()));
    await kill();
    await rm(directory, { recursive: true, force: true });
  });
  await initialize(programs, directory, owner);
  const port = await startSomewhere(async (candidate) => {
    server = await runServer(options, { directory, owner, port: candidate }, []);
  });
  const url = (database = 'postgres'): string =>
    `postgres://${POSTGRES_USER}:${encodeURIComponent(POSTGRES_PASSWORD)}@127.0.0.1:${port}/${database}`;
  const connect = async (database?: string): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: url(database) });
    // Ends when the server is killed.
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  const run: PostgresServer['run'] = async (sql, database) => {
    const client = await connect(database);
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows;
    } finally {
      await client.end();
    }
  };
  let databaseCount = 0;
  return {
    port,
    url,
    run,
    kill,
    createDatabase: async () => {
      const name = `test_${(databaseCount += 1)}`;
      await run(`CREATE DATABASE ${name}`);
      return name;
    },
    connect: async (database) => {
      const client = await connect(database);
      clients.push(client);
      return client;
    },
    freeze: () => signalAll(server, 'SIGSTOP'),
    thaw: () => signalAll(server, 'SIGCONT'),
    start: async (...more) => {
      assert.ok(!server || hasEnded(server), 'the server runs already');
      server = await runServer(options, { directory, owner, port }, more);
    },
  };
}

/** Debian keeps them off the PATH, one directory per version. */
function findPrograms(): string | undefined {
  const versions = '/usr/lib/postgresql';
  const numbers = existsSync(versions) ? readdirSync(versions).map(Number) : [];
  const newestFirst = numbers.sort((one, other) => other - one);
  const directories = newestFirst.map((number) => join(versions, String(number), 'bin'));
  const found = findProgram(['initdb'], directories) ?? findProgram(['initdb']);
  return found && join(found, '..');
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Postgres does not run as root: the user that runs it then; undefined for the current user. */
async function findOwner(): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = async (option: string): Promise<number> => {
    const args = [option, 'postgres'];
    const { stdout } = await runProgram('id', args).catch(() =>
      runProgram('id', [option, 'nobody']),
    );
    return Number(stdout);
  };
  return { uid: await idOf('-u'), gid: await idOf('-g') };
}

async function initialize(
  programs: string,
  directory: string,
  owner: Owner | undefined,
): Promise<void> {
  const passwordFile = join(directory, 'password');
  await writeFile(passwordFile, POSTGRES_PASSWORD);
  if (owner) {
    await chown(directory, owner.uid, owner.gid);
    await chown(passwordFile, owner.uid, owner.gid);
  }
  const args = [
    ...['-D', join(directory, 'data'), '-U', POSTGRES_USER, '--pwfile', passwordFile],
    ...['-A', 'scram-sha-256', '-E', 'UTF8', '--locale=C', '--no-sync'],
  ];
  await runProgram(join(programs, 'initdb'), args, { cwd: directory, ...owner });
}

/** Resolves once it accepts connections. */
async function runServer(
  { programs, settings = [], isDurable = false }: PostgresServerOptions,
  { directory, owner, port }: { directory: string; owner: Owner | undefined; port: number },
  more: readonly string[],
): Promise<ChildProcess> {
  const all = [
    ...['listen_addresses=127.0.0.1', `unix_socket_directories=${directory}`],
    ...['max_connections=60', 'shared_buffers=32MB', `fsync=${isDurable ? 'on' : 'off'}`],
    ...[...settings, ...more],
  ];
  const args = ['-D', join(directory, 'data'), '-p', String(port)];
  for (const setting of all) args.push('-c', setting);
  const server = spawn(join(programs, 'postgres'), args, {
    ...{ cwd: directory, stdio: ['ignore', 'ignore', 'pipe'], ...owner },
  });
  await untilReady(server);
  return server;
}

/** Rejects with its output if it ends instead. */
async function untilReady(server: ChildProcess): Promise<void> {
  assert.ok(server.stderr);
  const output: string[] = [];
  // Read to the end, or the server would block on its output.
  const lines = createInterface(server.stderr);
  await new Promise<void>((resolve, reject) => {
    const fail = (): void => {
      clearTimeout(deadline);
      reject(new Error(`Postgres did not start: ${output.join('\n')}`));
    };
    const deadline = setTimeout(() => server.kill('SIGKILL'), START_MS);
    server.once('exit', fail);
    lines.on('line', (line) => {
      if (output.length < 100) output.push(line);
      if (!line.includes(READY)) return;
      clearTimeout(deadline);
      server.off('exit', fail);
      resolve();
    });
  });
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

/** The first process is frozen meanwhile, so that it starts no others. */
async function killAll(server: ChildProcess): Promise<void> {
  if (hasEnded(server)) return;
  server.kill('SIGSTOP');
  for (const child of await childrenOf(server)) kill(child, 'SIGKILL');
  server.kill('SIGKILL');
  await once(server, 'exit');
}

async function signalAll(server: ChildProcess | undefined, signal: 'SIGSTOP' | 'SIGCONT') {
  assert.ok(server && !hasEnded(server), 'the server does not run');
  server.kill(signal);
  for (const child of await childrenOf(server)) kill(child, signal);
}

async function childrenOf({ pid }: ChildProcess): Promise<number[]> {
  const { stdout } = await runProgram('ps', ['-A', '-o', 'pid=,ppid=']);
  const processes = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  return processes.flatMap(([child, parent]) =>
    parent === pid && child !== undefined ? [child] : [],
  );
}

/** A process that has ended meanwhile needs no signal. */
function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
