/** The child processes of a simulation, each in its own process group and always ended, and their ports. */
import { spawn, type ChildProcess } from 'node:child_process';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { createProcessGroup } from '../app/process-group.ts';
import type { Clock } from '../clock.ts';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { pid } from 'node:process';

interface ProcessOptions {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Called with each line that the process writes to standard output or error. */
  readonly onLine?: (line: string) => void;
}

export interface RunningProcess {
  /** Resolves when it has ended: its exit code, or the signal that ended it. Never rejects. */
  readonly ended: Promise<string>;
  hasEnded(): boolean;
  /** The last lines it wrote. */
  lastLines(): string;
  /** The process, and what it has started. */
  members(): readonly number[];
  /** Signals the process and its children. Does nothing once it has ended. */
  signal(signal: NodeJS.Signals): void;
  /** Sends `signal`, kills after `graceMs`; resolves when no process of the group is left. */
  stop(signal: NodeJS.Signals, graceMs: number): Promise<void>;
}

export interface ProcessKeeper {
  /** Rejects if the command does not exist. */
  start(options: ProcessOptions): Promise<RunningProcess>;
  /** Kills the remaining processes. */
  close(): Promise<void>;
}

const KEPT_LINES = 20;

export function createProcessKeeper(clock: Clock): ProcessKeeper {
  const guardian = startGuardian();
  const running = new Set<RunningProcess>();
  return {
    start: async (options) => {
      const child = await spawned(options);
      const group = child.pid ?? 0;
      guardian.note(`+${group}`);
      const started = watch(child, group, options, clock);
      running.add(started);
      void started.ended.then(() => {
        running.delete(started);
        guardian.note(`-${group}`);
      });
      return started;
    },
    close: async () => {
      await Promise.all([...running].map((process) => process.stop('SIGKILL', 0)));
      await guardian.close();
    },
  };
}

async function spawned({ command, env }: ProcessOptions): Promise<ChildProcess> {
  const [file = '', ...args] = command;
  // A separate group: the simulator passes on a Ctrl-C of the terminal, and a signal
  // reaches what the command itself has started.
  const child = spawn(file, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) =>
      reject(new Error(`cannot start ${file}: ${cause.message}`, { cause })),
    );
  });
  return child;
}

function watch(
  child: ChildProcess,
  group: number,
  options: ProcessOptions,
  clock: Clock,
): RunningProcess {
  const lines: string[] = [];
  const onLine = (line: string): void => {
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
    options.onLine?.(line);
  };
  for (const output of [child.stdout, child.stderr]) readLines(output, onLine);
  const processes = createProcessGroup(group, clock);
  let hasEnded = false;
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      hasEnded = true;
      // Its children must not outlive it.
      signalGroup(group, 'SIGKILL');
      resolve(signal ?? `code ${code ?? 0}`);
    });
  });
  const signal = (name: NodeJS.Signals): void => {
    if (!hasEnded) signalGroup(group, name);
  };
  return {
    ended,
    hasEnded: () => hasEnded,
    lastLines: () => lines.join('\n'),
    members: () => processes.members(),
    signal,
    stop: async (name, graceMs) => {
      signal(name);
      // A suspended process receives a signal only after SIGCONT, except SIGKILL.
      signal('SIGCONT');
      const isOver = new AbortController();
      const grace = clock.sleep(graceMs, isOver.signal).then(() => signal('SIGKILL'));
      await Promise.race([ended, grace]);
      isOver.abort();
      await ended;
    },
  };
}

function readLines(output: Readable | null, onLine: (line: string) => void): void {
  if (output) createInterface({ input: output }).on('line', onLine);
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // The group has ended.
  }
}

function startGuardian(): { note(line: string): void; close(): Promise<void> } {
  const script = new URL(`./guardian${extname(import.meta.url)}`, import.meta.url);
  // Detached, so that a Ctrl-C in the terminal does not end it too early.
  const child = spawn(process.execPath, [fileURLToPath(script)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  child.stdin.on('error', () => undefined);
  return {
    note: (line) => child.stdin.write(`${line}\n`),
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** Below the ports that Linux (32768 up) and macOS (49152 up) give to outgoing connections. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;
/** The number of ports in the block of one process. */
const BLOCK_PORTS = 300;
const BLOCKS = PORT_COUNT / BLOCK_PORTS;
const TRIES_IN_BLOCK = 1_000;
const MAX_TRIES = TRIES_IN_BLOCK + 200;

/**
 * Finds ports without a listener. A port stays free for its Machine while the Machine is stopped:
 * outgoing connections never use one of these, and none is returned twice. A concurrent simulation uses
 * another block, because its process has another id.
 */
export function createPortFinder(random: () => number): () => Promise<number> {
  const given = new Set<number>();
  const firstOfBlock = FIRST_PORT + (pid % BLOCKS) * BLOCK_PORTS;
  return async () => {
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const port =
        tries < TRIES_IN_BLOCK
          ? firstOfBlock + Math.floor(random() * BLOCK_PORTS)
          : FIRST_PORT + Math.floor(random() * PORT_COUNT);
      if (given.has(port)) continue;
      // Before the check whether it is free: another search may run at the same time.
      given.add(port);
      if (await isFree(port)) return port;
    }
    throw new Error(`no free port from ${FIRST_PORT} to ${FIRST_PORT + PORT_COUNT - 1}`);
  };
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch {
    // In use, or not permitted: the next one is tried.
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
