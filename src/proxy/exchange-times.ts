/** The moments of one exchange, in ms of the monotonic clock, and what lies between them. */
import type { Clock } from '../clock.ts';

export interface ExchangeDurations {
  readonly totalMs: number;
  /** What the sidecar added until the answer's head was out. */
  readonly sidecarMs: number;
  /** From the request's leaving to the answer's head. */
  readonly upstreamMs: number | undefined;
}

export class ExchangeTimes {
  readonly #clock: Clock;
  readonly #arrivedAt: number;
  #sentAt = 0;
  #answeredAt = 0;
  #writtenAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#arrivedAt = clock.monotonicMs();
  }

  /** The request leaves for its upstream. */
  noteSent(): void {
    this.#sentAt = this.#clock.monotonicMs();
  }

  /** The upstream has answered, or failed. */
  noteAnswered(): void {
    this.#answeredAt = this.#clock.monotonicMs();
  }

  /** The head of the answer goes out. */
  noteWritten(): void {
    this.#writtenAt = this.#clock.monotonicMs();
  }

  durations(): ExchangeDurations {
    const now = this.#clock.monotonicMs();
    const wasAnswered = this.#sentAt > 0 && this.#answeredAt > 0;
    const upstreamMs = wasAnswered ? this.#answeredAt - this.#sentAt : undefined;
    const writtenAt = this.#writtenAt === 0 ? now : this.#writtenAt;
    return {
      totalMs: now - this.#arrivedAt,
      sidecarMs: Math.max(0, writtenAt - this.#arrivedAt - (upstreamMs ?? 0)),
      upstreamMs,
    };
  }
}
