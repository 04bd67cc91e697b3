/** A value that takes long to read, for readers who prefer an older value to waiting. */
import type { Clock } from '../clock.ts';

interface CachedReadingOptions<Value> {
  /** A rejection keeps the value before. Ends early when the signal aborts. */
  readonly read: (signal: AbortSignal) => Promise<Value>;
  readonly clock: Clock;
  /** The shortest time from the end of a reading to the next, in ms. */
  readonly intervalMs: number;
}

/** Where a reading takes long, the next one waits this many times as long. */
const PAUSE_FACTOR = 20;
/** The longest wait for the first value, in ms. */
const FIRST_WAIT_MS = 250;

export class CachedReading<Value> {
  readonly #options: CachedReadingOptions<Value>;
  readonly #stopped = new AbortController();
  #value: Value | undefined;
  #reading: Promise<void> | undefined;
  #dueAtMs = -Infinity;

  constructor(options: CachedReadingOptions<Value>) {
    this.#options = options;
  }

  /** The last value; reads a new one in the background if it is due. Never rejects. */
  async latest(): Promise<Value | undefined> {
    const { clock } = this.#options;
    if (this.#stopped.signal.aborted) return this.#value;
    if (clock.monotonicMs() >= this.#dueAtMs) this.#reading ??= this.#read();
    if (this.#value !== undefined || !this.#reading) return this.#value;
    const abort = new AbortController();
    await Promise.race([this.#reading, clock.sleep(FIRST_WAIT_MS, abort.signal)]);
    abort.abort();
    return this.#value;
  }

  /** Resolves when nothing is read any more. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#reading;
  }

  async #read(): Promise<void> {
    const { read, clock, intervalMs } = this.#options;
    const startedAtMs = clock.monotonicMs();
    try {
      this.#value = await read(this.#stopped.signal);
    } catch {
      // Whatever is read reports its failures itself.
    }
    const endedAtMs = clock.monotonicMs();
    this.#dueAtMs = endedAtMs + Math.max(intervalMs, PAUSE_FACTOR * (endedAtMs - startedAtMs));
    this.#reading = undefined;
  }
}
