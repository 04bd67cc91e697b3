/** The outages of each app, which may explain a failed request. */
import { systemClock } from '../../../src/clock.ts';

interface Outage {
  readonly app: string;
  readonly fromMs: number;
  /** Undefined while it lasts. */
  untilMs: number | undefined;
}

export class Outages {
  readonly #outages: Outage[] = [];
  readonly #now: () => number;

  constructor(now = () => systemClock.monotonicMs()) {
    this.#now = now;
  }

  get count(): number {
    return this.#outages.length;
  }

  /** Call this before the app is killed. Returns a function to call once it listens again. */
  begin(app: string): () => void {
    const outage: Outage = { app, fromMs: this.#now(), untilMs: undefined };
    this.#outages.push(outage);
    return () => {
      outage.untilMs = this.#now();
    };
  }

  /** How often that app was killed. */
  countOf(app: string): number {
    return this.#outages.filter((outage) => outage.app === app).length;
  }

  /** Whether one of these apps was down at some moment from `sinceMs` to now. */
  explains(apps: ReadonlySet<string>, sinceMs: number): boolean {
    return this.#outages.some(
      ({ app, untilMs }) => apps.has(app) && (untilMs === undefined || untilMs >= sinceMs),
    );
  }

  /** Text for a report: the time since the last app was killed. */
  lastKill(): string {
    const last = this.#outages.at(-1);
    if (!last) return 'before any kill';
    const seconds = ((this.#now() - last.fromMs) / 1_000).toFixed(1);
    const state = last.untilMs === undefined ? 'still down' : 'up again';
    return `${seconds} s after the last kill (${last.app}, ${state})`;
  }
}
