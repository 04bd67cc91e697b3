/** How often each kind ran, and how it ended; failures are printed as they happen. */
import type { KindName } from './kinds/kinds.ts';
import type { Step } from './step.ts';

export interface Count {
  steps: number;
  requests: number;
  replays: number;
  /** Requests that were sent again, because a sidecar requested it. */
  laters: number;
  ok: number;
  /** Failures that a killed app explains. */
  explained: number;
  unexpected: number;
}

interface TallyOptions {
  readonly isVerbose: boolean;
  /** Text for a report: the time, relative to the last kill. */
  readonly when: () => string;
  readonly print: (line: string) => void;
}

const NOTHING: Count = {
  steps: 0,
  requests: 0,
  replays: 0,
  laters: 0,
  ok: 0,
  explained: 0,
  unexpected: 0,
};
/** Per kind: more lines are not useful. */
const MAX_PRINTED = 20;

export class Tally {
  readonly #counts = new Map<KindName, Count>();
  readonly #options: TallyOptions;
  readonly #printed = new Map<KindName, number>();

  constructor(options: TallyOptions) {
    this.#options = options;
  }

  countOf(kind: KindName): Count {
    const known = this.#counts.get(kind);
    if (known) return known;
    const made = { ...NOTHING };
    this.#counts.set(kind, made);
    return made;
  }

  counts(): ReadonlyMap<KindName, Count> {
    return this.#counts;
  }

  total(): Count {
    const total = { ...NOTHING };
    for (const count of this.#counts.values()) {
      for (const name of Object.keys(total) as (keyof Count)[]) total[name] += count[name];
    }
    return total;
  }

  ended(kind: KindName, step: Step, outcome: 'ok' | 'explained' | 'unexpected'): void {
    const count = this.countOf(kind);
    count.steps += 1;
    count.requests += step.requests;
    count.replays += step.replays;
    count.laters += step.laters;
    count[outcome] += 1;
  }

  failed(kind: KindName, step: Step, error: unknown, isExplained: boolean): void {
    this.ended(kind, step, isExplained ? 'explained' : 'unexpected');
    if (isExplained && !this.#options.isVerbose) return;
    const printed = (this.#printed.get(kind) ?? 0) + 1;
    this.#printed.set(kind, printed);
    if (printed > MAX_PRINTED) return;
    const what =
      error instanceof Error && error.name === 'Failure' ? error.message : inspect(error);
    const label = isExplained ? 'expected' : 'UNEXPECTED';
    this.#options.print(`${label}: ${kind} at ${step.position}, ${this.#options.when()}: ${what}`);
    if (printed === MAX_PRINTED) this.#options.print(`... more of ${kind} are only counted`);
  }
}

/** A bug in the script itself: its stack is needed. */
function inspect(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
