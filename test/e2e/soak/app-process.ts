/** One of the apps, which is killed and started again on its port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { AppMessage } from './processes/messages.ts';

const SCRIPT = fileURLToPath(new URL('processes/app.ts', import.meta.url));

export interface AppOptions {
  readonly name: string;
  readonly port: number;
  /** After this time, in ms, the app closes a connection that is idle. */
  readonly keepAliveMs: number;
}

export class AppProcess {
  readonly name: string;
  readonly #options: AppOptions;
  #child: ChildProcess | undefined;
  /** Malformed requests, and data behind them, that reached this app. */
  readonly malformed: string[] = [];
  /** The most that could be written for a client that stopped reading. */
  mostStalledBytes = 0;

  constructor(options: AppOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Resolves once it listens. */
  async start(): Promise<void> {
    const { name, port, keepAliveMs } = this.#options;
    const child = spawn(process.execPath, ['--no-warnings', SCRIPT], {
      env: {
        PATH: process.env.PATH,
        SOAK_APP: name,
        SOAK_KEEP_ALIVE_MS: String(keepAliveMs),
        PORT: String(port),
      },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    child.on('message', (message: AppMessage) => this.#note(message));
    await messageOf(child, 'listening');
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  /** Its open requests and WebSockets. */
  async open(): Promise<AppMessage & { kind: 'open' }> {
    if (!this.#child) throw new Error(`the app of ${this.name} does not run`);
    const response = messageOf(this.#child, 'open');
    this.#child.send('open?');
    return (await response) as AppMessage & { kind: 'open' };
  }

  #note(message: AppMessage): void {
    if (message.kind === 'malformed') this.malformed.push(message.id);
    if (message.kind !== 'stalled') return;
    this.mostStalledBytes = Math.max(this.mostStalledBytes, message.bytes);
  }
}

/** Rejects if the process ends before. */
function messageOf(child: ChildProcess, kind: AppMessage['kind']): Promise<AppMessage> {
  return new Promise((resolve, reject) => {
    const onMessage = (message: AppMessage): void => {
      if (message.kind !== kind) return;
      stop();
      resolve(message);
    };
    const onExit = (code: number | null): void => {
      stop();
      reject(new Error(`the app has ended with code ${code ?? 'none'}`));
    };
    const stop = (): void => {
      child.off('message', onMessage).off('exit', onExit);
    };
    child.on('message', onMessage).on('exit', onExit);
  });
}
