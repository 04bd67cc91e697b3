/** A sidecar as it is shipped, as its own process, with its log in a file. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../../src/clock.ts';
import { readReadiness } from './checks/admin.ts';
import type { MemoryReading } from './processes/messages.ts';

const PROBE = fileURLToPath(new URL('processes/memory.ts', import.meta.url));
/** V8 drops compiled code some time after its last use, which would hide leaks of the load. */
const NODE_OPTIONS = ['--no-warnings', '--expose-gc', '--no-flush-bytecode', '--import', PROBE];
const START_TIMEOUT_MS = 15_000;
const END_TIMEOUT_MS = 15_000;

export interface SidecarOptions {
  readonly name: string;
  /** `main.js` of the compiled program. */
  readonly script: string;
  readonly ports: SidecarPorts;
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly errorFile: string;
}

export interface SidecarPorts {
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
}

export class SidecarProcess {
  readonly name: string;
  readonly ports: SidecarPorts;
  readonly logFile: string;
  readonly errorFile: string;
  readonly #child: ChildProcess;

  constructor({ name, script, ports, env, logFile, errorFile }: SidecarOptions) {
    this.name = name;
    this.ports = ports;
    this.logFile = logFile;
    this.errorFile = errorFile;
    const [log, errors] = [openSync(logFile, 'w'), openSync(errorFile, 'w')];
    this.#child = spawn(process.execPath, [...NODE_OPTIONS, script, 'serve'], {
      env: {
        PATH: process.env.PATH,
        HOST: '127.0.0.1',
        PORT: String(ports.public),
        PEER_PORT: String(ports.peer),
        ADMIN_PORT: String(ports.admin),
        FLY_MACHINE_ID: name,
        ...env,
      },
      stdio: ['ignore', log, errors, 'ipc'],
    });
    closeSync(log);
    closeSync(errors);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** How it has ended; undefined while it runs. */
  get ending(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) return undefined;
    return signalCode ?? `code ${exitCode}`;
  }

  /** Resolves with how it has ended, once it has. */
  async exited(): Promise<string> {
    if (this.ending === undefined) await once(this.#child, 'exit');
    return this.ending ?? '';
  }

  async untilReady(): Promise<void> {
    const deadline = systemClock.monotonicMs() + START_TIMEOUT_MS;
    while (!(await readReadiness(this.ports.admin)).isReady) {
      if (this.ending !== undefined) throw new Error(`${this.name} has ended: ${this.ending}`);
      if (systemClock.monotonicMs() > deadline) throw new Error(`${this.name} is not ready`);
      await systemClock.sleep(50);
    }
  }

  /** After garbage collection; undefined once it has ended. */
  async memory(): Promise<MemoryReading | undefined> {
    if (this.ending !== undefined) return undefined;
    const response = new Promise<MemoryReading>((resolve) => {
      this.#child.once('message', (reading: MemoryReading) => resolve(reading));
    });
    // If it has just ended, the send fails, and its end resolves the other promise.
    this.#child.send('memory?', () => undefined);
    return Promise.race([response, this.exited().then(() => undefined)]);
  }

  /** As Fly.io stops it: one signal. Resolves with how it has ended. */
  async end(): Promise<string> {
    if (this.ending !== undefined) return this.ending;
    const exited = this.exited();
    this.#child.kill('SIGTERM');
    const limit = new AbortController();
    const tooLong = systemClock
      .sleep(END_TIMEOUT_MS, limit.signal)
      .then(() => `still running ${END_TIMEOUT_MS} ms after SIGTERM`);
    const how = await Promise.race([exited, tooLong]);
    limit.abort();
    return how;
  }

  async kill(): Promise<void> {
    if (this.ending !== undefined) return;
    const exited = this.exited();
    this.#child.kill('SIGKILL');
    await exited;
  }
}
