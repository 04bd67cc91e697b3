/**
 * Processes that are pinned to one core each, so that the measuring process takes no time from the
 * measured one. Without `taskset`, or with one core only, the system schedules them.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** The load generator and the app share one core; the candidate has the other for itself. */
export type Core = 'load' | 'candidate';

interface PinnedOptions {
  readonly core: Core;
  /** Script and its arguments. */
  readonly command: readonly string[];
  /** Options of Node itself. */
  readonly nodeOptions?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** File for the standard output; discarded if absent. */
  readonly outputPath?: string;
}

export interface PinnedProcess {
  readonly pid: number;
  /** Node processes have an IPC channel, others have none. */
  readonly child: ChildProcess;
  /** The next message of the process; rejects if it ends before. */
  nextMessage(): Promise<unknown>;
  stop(): Promise<void>;
}

const CORES: Readonly<Record<Core, string>> = { load: '0', candidate: '1' };

export const isPinning =
  availableParallelism() > 1 && spawnSync('taskset', ['-c', '1', 'true']).status === 0;

/** With the signal that stops each. */
const running = new Map<ChildProcess, NodeJS.Signals>();
process.on('exit', () => {
  for (const [child, signal] of running) child.kill(signal);
});

/** Starts a Node process. Its errors are printed. */
export function startPinned(options: PinnedOptions): PinnedProcess {
  const { core, command, nodeOptions = [], env = {}, outputPath } = options;
  const node = [process.execPath, '--no-warnings', ...nodeOptions, ...command];
  const output = outputPath === undefined ? 'ignore' : openSync(outputPath, 'w');
  const [file, args] = pinnedTo(core, node);
  const child = spawn(file, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', output, 'inherit', 'ipc'],
  });
  if (output !== 'ignore') closeSync(output);
  return follow(child, command[0] ?? '', 'SIGKILL');
}

/** Starts another program. It is stopped with SIGTERM, so that it can stop its own children. */
export function startPinnedProgram(core: Core, command: readonly string[]): PinnedProcess {
  const [file, args] = pinnedTo(core, command);
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return follow(child, command[0] ?? '', 'SIGTERM');
}

function pinnedTo(core: Core, command: readonly string[]): [file: string, args: string[]] {
  const [file = '', ...args] = isPinning ? ['taskset', '-c', CORES[core], ...command] : command;
  return [file, args];
}

function follow(child: ChildProcess, name: string, signal: NodeJS.Signals): PinnedProcess {
  running.set(child, signal);
  child.once('exit', () => running.delete(child));
  return {
    pid: child.pid ?? 0,
    child,
    nextMessage: () => nextMessageOf(child, name),
    stop: () => stop(child, signal),
  };
}

async function nextMessageOf(child: ChildProcess, name: string): Promise<unknown> {
  const over = new AbortController();
  const { signal } = over;
  const message = once(child, 'message', { signal }).then(([first]: unknown[]) => first);
  const ended = once(child, 'exit', { signal }).then(([code]: unknown[]) => {
    throw new Error(`${name} has ended with code ${String(code)}`);
  });
  // The slower one is aborted, which rejects it: it is not awaited any more.
  message.catch(() => undefined);
  ended.catch(() => undefined);
  try {
    return await Promise.race([message, ended]);
  } finally {
    over.abort();
  }
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
