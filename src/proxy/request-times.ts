/** When the steps of one request happened, in ms of the monotonic clock, and the durations between them. */
import type { Clock } from '../clock.ts';

export interface RequestDurations {
  readonly totalMs: number;
  /** What the sidecar added until the response's head was out. */
  readonly sidecarMs: number;
  /** From sending the request upstream to the response's head; undefined if it was not sent. */
  readonly upstreamMs: number | undefined;
}

export class RequestTimes {
  readonly #clock: Clock;
  readonly #arrivedAt: number;
  #sentAt = 0;
  #respondedAt = 0;
  #writtenAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#arrivedAt = clock.monotonicMs();
  }

  /** The request is sent to its upstream. */
  noteSent(): void {
    this.#sentAt = this.#clock.monotonicMs();
  }

  /** The upstream's head has come, or the upstream has failed. */
  noteResponse(): void {
    this.#respondedAt = this.#clock.monotonicMs();
  }

  /** The head of the response goes out; `isHeld`: something was waited for since it has come. */
  noteWritten(isHeld = true): void {
    this.#writtenAt = isHeld ? this.#clock.monotonicMs() : this.#respondedAt;
  }

  durations(): RequestDurations {
    const now = this.#clock.monotonicMs();
    const wasServed = this.#sentAt > 0 && this.#respondedAt > 0;
    const upstreamMs = wasServed ? this.#respondedAt - this.#sentAt : undefined;
    const writtenAt = this.#writtenAt === 0 ? now : this.#writtenAt;
    return {
      totalMs: now - this.#arrivedAt,
      sidecarMs: Math.max(0, writtenAt - this.#arrivedAt - (upstreamMs ?? 0)),
      upstreamMs,
    };
  }
}
