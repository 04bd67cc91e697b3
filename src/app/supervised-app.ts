/** The app as a child of `run`. */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Environment } from '../config/config.ts';
import { exitCodeOf } from './lifecycle.ts';

export interface AppProcess {
  /** Its exit code, or 128 and the number of the signal that ended it. Never rejects. */
  readonly ended: Promise<number>;
  /** Nothing happens if it has ended. */
  signal(signal: NodeJS.Signals): void;
  /** Kills it, and what it has started; false if it has ended already. */
  kill(): boolean;
}

/**
 * Resolves once it runs; rejects if it can't be started. It shares our input and output. It gets a
 * process group of its own, so that a Ctrl-C in a terminal reaches us alone and can drain first.
 */
export function startApp(
  [command = '', ...args]: readonly string[],
  env: Environment,
): Promise<AppProcess> {
  const child = spawn(command, args, { env, stdio: 'inherit', detached: true });
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ? exitCodeOf(signal) : (code ?? 0)));
  });
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(startError(command, error)));
    child.once('spawn', () => {
      resolve({
        ended,
        signal: (signal) => void child.kill(signal),
        kill: () => killGroup(child),
      });
    });
  });
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): boolean {
  if (pid === undefined || exitCode !== null || signalCode !== null) return false;
  try {
    return process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing is left of the group: it has ended a moment ago, and we are yet to hear of it.
    return false;
  }
}

function startError(command: string, error: NodeJS.ErrnoException): Error {
  const reason = error.code === 'ENOENT' ? 'there is no such program' : error.code;
  return new Error(`cannot start ${command}: ${reason ?? 'unknown reason'}`, { cause: error });
}
