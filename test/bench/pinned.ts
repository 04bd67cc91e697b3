/**
 * Node processes that keep to one core each, so that what measures does not take time from what is
 * measured. Where there is no `taskset`, or one core only, they run wherever the system puts them.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';

/** The load generator and the app share one core; the candidate has the other for itself. */
export type Core = 'load' | 'candidate';

export interface PinnedOptions {
  readonly core: Core;
  /** Script and its arguments. */
  readonly command: readonly string[];
  /** Options of Node itself. */
  readonly nodeOptions?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export interface PinnedProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  /** The next message of the process; rejects if it ends before. */
  nextMessage(): Promise<unknown>;
  stop(): Promise<void>;
}

const CORES: Readonly<Record<Core, string>> = { load: '0', candidate: '1' };

export const isPinning =
  availableParallelism() > 1 && spawnSync('taskset', ['-c', '1', 'true']).status === 0;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Standard output goes nowhere, as a log that is not read; errors are shown. */
export function startPinned(options: PinnedOptions): PinnedProcess {
  const { core, command, nodeOptions = [], env = {} } = options;
  const node = [process.execPath, '--no-warnings', ...nodeOptions, ...command];
  const [file = '', ...args] = isPinning ? ['taskset', '-c', CORES[core], ...node] : node;
  const child = spawn(file, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return {
    pid: child.pid ?? 0,
    child,
    nextMessage: () => nextMessageOf(child, command[0] ?? ''),
    stop: () => kill(child),
  };
}

async function nextMessageOf(child: ChildProcess, name: string): Promise<unknown> {
  const over = new AbortController();
  const { signal } = over;
  const message = once(child, 'message', { signal }).then(([first]: unknown[]) => first);
  const ended = once(child, 'exit', { signal }).then(([code]: unknown[]) => {
    throw new Error(`${name} has ended with code ${String(code)}`);
  });
  // The one that comes second is called off, which rejects it: nobody waits for that any more.
  message.catch(() => undefined);
  ended.catch(() => undefined);
  try {
    return await Promise.race([message, ended]);
  } finally {
    over.abort();
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
