/** The app as a child of `run`. */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Environment } from '../config/config.ts';
import { exitCodeOf } from './lifecycle.ts';
import { connect } from 'node:net';
import type { Clock } from '../clock.ts';

export interface AppProcess {
  /** Its exit code, or 128 and the number of the signal that ended it. Never rejects. */
  readonly ended: Promise<number>;
  /** Does nothing if the app has ended. */
  signal(signal: NodeJS.Signals): void;
  /** Kills the app and its children; false if it has ended already. */
  kill(): boolean;
}

/**
 * Resolves once the app runs; rejects if it can't be started. It inherits our input and output, but has
 * its own process group, so that a Ctrl-C in a terminal reaches only the sidecar, which drains first.
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
    // The group has ended, but its 'exit' event has not arrived yet.
    return false;
  }
}

function startError(command: string, error: NodeJS.ErrnoException): Error {
  const reason = error.code === 'ENOENT' ? 'there is no such program' : error.code;
  return new Error(`cannot start ${command}: ${reason ?? 'unknown reason'}`, { cause: error });
}

/* Waits until a port accepts connections. */

export interface AwaitPortOptions {
  readonly host: string;
  readonly port: number;
  readonly clock: Clock;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** Called from time to time with the time waited so far, in ms. */
  readonly onWaiting?: (waitedMs: number) => void;
}

const PROBE_INTERVAL_MS = 50;
const PROBE_TIMEOUT_MS = 2000;
const REPORT_INTERVAL_MS = 10_000;

/** Resolves to true once a connection can be made, to false when `signal` aborts; never rejects. */
export async function awaitPort(options: AwaitPortOptions): Promise<boolean> {
  const { clock, signal, onWaiting } = options;
  const startedAt = clock.monotonicMs();
  let nextReportMs = 0;
  while (!signal.aborted) {
    if (await canConnect(options)) return true;
    const waitedMs = clock.monotonicMs() - startedAt;
    if (waitedMs >= nextReportMs) {
      onWaiting?.(Math.round(waitedMs));
      nextReportMs += REPORT_INTERVAL_MS;
    }
    await clock.sleep(PROBE_INTERVAL_MS, signal);
  }
  return false;
}

function canConnect({ host, port, clock, signal }: AwaitPortOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    const end = (isConnected: boolean): void => {
      cancelTimeout();
      socket.destroy();
      resolve(isConnected);
    };
    const cancelTimeout = clock.after(PROBE_TIMEOUT_MS, () => end(false));
    socket.once('connect', () => end(true));
    socket.on('error', () => end(false));
  });
}
