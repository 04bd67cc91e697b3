/** The client of one product, from outside its thread. */
import { Worker } from 'node:worker_threads';
import { systemClock } from '../../../src/clock.ts';
import type { ClientMessage, ClientPlan } from './client-main.ts';

/** Of each half, in ms; a busy computer needs a fraction of it. */
const TIMEOUT_MS = 60_000;

const WORKS = 'works';

/** first half --(midway)--> waiting --finish()--> second half --(done)--> ended; an error ends it. */
export class ClientThread {
  readonly #plan: ClientPlan;
  #worker: Worker | undefined;
  #midways = 0;
  #error: unknown;
  readonly #reachedMidway = Promise.withResolvers<unknown>();
  readonly #ended = Promise.withResolvers<string>();
  #hasEnded = false;

  constructor(plan: ClientPlan) {
    this.#plan = plan;
  }

  get name(): string {
    return this.#plan.name;
  }

  /** What ended it, with its stack. */
  get error(): unknown {
    return this.#error;
  }

  /** Resolves when it waits for {@link finish}, or has ended. */
  async runFirstHalf(): Promise<void> {
    const worker = new Worker(new URL('client-main.ts', import.meta.url), {
      workerData: this.#plan,
      execArgv: [],
      // Some libraries are talkative.
      stdout: process.env.E2E_LINES === undefined,
    });
    worker.stdout.resume();
    this.#worker = worker;
    worker.on('message', (message: ClientMessage) => this.#receive(message));
    worker.on('error', (error: Error) => this.#fail(error));
    worker.on('exit', (code) => this.#fail(new Error(`its thread ended with ${code}`)));
    await this.#limited(this.#reachedMidway.promise);
  }

  /** Resolves with {@link WORKS}, or the first error. */
  async finish(): Promise<string> {
    this.#worker?.postMessage('resume');
    await this.#limited(this.#ended.promise);
    await this.#worker?.terminate();
    return this.#ended.promise;
  }

  #receive(message: ClientMessage): void {
    if (message === 'midway') {
      this.#midways += 1;
      this.#reachedMidway.resolve(undefined);
    } else if (this.#midways === 1) {
      this.#end(WORKS);
    } else {
      this.#fail(new Error(`it called midway ${this.#midways} times`));
    }
  }

  #fail(error: Error): void {
    if (this.#hasEnded) return;
    this.#error = error;
    this.#end(firstLineOf(error));
  }

  #end(result: string): void {
    this.#hasEnded = true;
    this.#ended.resolve(result);
    this.#reachedMidway.resolve(undefined);
  }

  async #limited(work: Promise<unknown>): Promise<void> {
    const half = this.#midways === 0 ? 'first' : 'second';
    const cancel = systemClock.after(TIMEOUT_MS, () => {
      this.#fail(new Error(`its ${half} half did not end in ${TIMEOUT_MS} ms`));
    });
    await work;
    cancel();
  }
}

function firstLineOf({ name, message }: Error): string {
  const [line = ''] = message.split('\n');
  return line === '' ? name : line;
}
