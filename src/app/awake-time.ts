/**
 * Measures how long this Machine was suspended. While it is, the monotonic clock of a Fly Machine stops; its wall
 * clock jumps when it resumes, or some seconds later. Where a process is only stopped, both clocks go on. So of
 * each tick that is late by either clock, the excess counts as asleep.
 */
import type { Cancel, Clock } from '../clock.ts';

/** How late a resume is noticed, at most: until then connections are refused. */
const TICK_MS = 20;
/** By how much the wall clock has to outrun the monotonic one. */
const MIN_DIFFERENCE_MS = 250;
/** A tick so late, by either clock, is more than a busy computer explains. */
const MIN_GAP_MS = 1_000;

export class AwakeTime {
  readonly #clock: Clock;
  readonly #startedAt: number;
  readonly #cancel: Cancel;
  #awakeMs = 0;
  #lastMs: number;
  #lastAt: number;
  #hasJumped = false;
  #onJump = Promise.withResolvers<undefined>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedAt = clock.now();
    this.#lastAt = this.#startedAt;
    this.#lastMs = clock.monotonicMs();
    this.#cancel = clock.every(TICK_MS, () => this.#tick());
  }

  /** A clock has jumped: this Machine was suspended. */
  get hasJumped(): boolean {
    return this.#hasJumped;
  }

  /** Resolves at a jump, or after `ms`, or when `signal` aborts. */
  async untilJump(ms: number, signal: AbortSignal): Promise<void> {
    const isOver = new AbortController();
    const either = AbortSignal.any([signal, isOver.signal]);
    await Promise.race([this.#onJump.promise, this.#clock.sleep(ms, either)]);
    isOver.abort();
  }

  /** Of the time since the start, by the wall clock. */
  sleptMs(): number {
    this.#tick();
    return Math.max(0, this.#clock.now() - this.#startedAt - this.#awakeMs);
  }

  stop(): void {
    this.#cancel();
  }

  #tick(): void {
    const [nowMs, now] = [this.#clock.monotonicMs(), this.#clock.now()];
    const [passedMs, passed] = [nowMs - this.#lastMs, now - this.#lastAt];
    this.#lastMs = nowMs;
    this.#lastAt = now;
    const isJump = passed - passedMs >= MIN_DIFFERENCE_MS || passedMs >= MIN_GAP_MS;
    if (!isJump) {
      this.#awakeMs += passedMs;
      return;
    }
    this.#awakeMs += Math.min(passedMs, TICK_MS);
    this.#hasJumped = true;
    this.#onJump.resolve(undefined);
  }
}
