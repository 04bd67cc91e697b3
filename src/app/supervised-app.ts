/** The app as a child of `run`. */
import { spawn } from 'node:child_process';
import type { Environment } from '../config/config.ts';
import { exitCodeOf } from './lifecycle.ts';
import { createProcessGroup, type ProcessGroup } from './process-group.ts';
import { connect } from 'node:net';
import type { Clock } from '../clock.ts';

export interface AppProcess {
  /** Its exit code, or 128 and the number of the signal that ended it. Never rejects. */
  readonly ended: Promise<number>;
  /** The first signal starts the time after which what is left of the app is killed. */
  signal(signal: NodeJS.Signals): void;
  readonly isSignalled: boolean;
  /** The app, and whatever it has started. */
  readonly processes: ProcessGroup;
  /** Resolves when no process of the app is left. */
  gone(): Promise<void>;
  /** Kills what is left of it. */
  kill(): void;
}

export interface AppOptions {
  readonly env: Environment;
  readonly clock: Clock;
  readonly killAfterMs: number;
  /** Called before what ignores a signal is killed. */
  readonly onKill: (processes: readonly number[]) => void;
}

/**
 * Resolves once the app runs; rejects with an {@link AppStartError} if it can't be started. It inherits our
 * input and output, but has its own process group, so that a Ctrl-C in a terminal reaches only the sidecar,
 * which drains first.
 */
export function startApp(
  [command = '', ...args]: readonly string[],
  options: AppOptions,
): Promise<AppProcess> {
  const child = spawn(command, args, { env: options.env, stdio: 'inherit', detached: true });
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ? exitCodeOf(signal) : (code ?? 0)));
  });
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(new AppStartError(command, error)));
    child.once('spawn', () => {
      const processes = createProcessGroup(child.pid ?? 0, options.clock);
      resolve(new StartedApp(ended, processes, options));
    });
  });
}

class StartedApp implements AppProcess {
  readonly ended: Promise<number>;
  readonly processes: ProcessGroup;
  readonly #options: AppOptions;
  #cancelKill: (() => void) | undefined;

  constructor(ended: Promise<number>, processes: ProcessGroup, options: AppOptions) {
    this.ended = ended;
    this.processes = processes;
    this.#options = options;
  }

  get isSignalled(): boolean {
    return this.#cancelKill !== undefined;
  }

  signal(signal: NodeJS.Signals): void {
    const { clock, killAfterMs } = this.#options;
    this.#cancelKill ??= clock.after(killAfterMs, () => this.kill());
    this.processes.signal(signal);
  }

  async gone(): Promise<void> {
    await this.ended;
    await this.processes.gone();
    this.#cancelKill?.();
  }

  kill(): void {
    const left = this.processes.members();
    if (left.length === 0) return;
    this.#options.onKill(left);
    this.processes.signal('SIGKILL');
  }
}

/* The exit codes of a shell for a program that it can't start. */

const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

const START_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such program',
  EACCES: 'it is not an executable file',
  ENOEXEC: 'it is not a program for this computer',
};

export class AppStartError extends Error {
  override readonly name = 'AppStartError';
  readonly exitCode: number;

  constructor(command: string, cause: NodeJS.ErrnoException) {
    const { code = 'unknown reason' } = cause;
    super(`cannot start ${command}: ${START_ERRORS[code] ?? code}`, { cause });
    this.exitCode = code === 'ENOENT' ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
  }
}

/* Waits until a port accepts connections. */

interface AwaitPortOptions {
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
  const isOver = (): boolean => signal.aborted;
  let nextReportMs = 0;
  while (!isOver()) {
    if (await canConnect(options)) return true;
    const waitedMs = clock.monotonicMs() - startedAt;
    if (waitedMs >= nextReportMs && !isOver()) {
      onWaiting?.(Math.round(waitedMs));
      nextReportMs += REPORT_INTERVAL_MS;
    }
    await clock.sleep(PROBE_INTERVAL_MS, signal);
  }
  return false;
}

/** An IPv6 address has brackets only in a URL. */
export function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

export function canConnect({ host, port, clock, signal }: AwaitPortOptions): Promise<boolean> {
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
