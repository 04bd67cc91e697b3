/**
 * Whether the app beside us takes requests. A request that it refuses marks it down at once; where a
 * check is configured, two failed ones in a row do too. One probe that passes brings it back.
 *
 *   up --refused, or the second failed check--> down --a probe passes--> up
 *
 * Nothing runs while it is up and there is no check. At most one probe is under way.
 */
import type { Cancel, Clock } from '../clock.ts';
import type { Probe, ProbeOutcome } from './upstream-probes.ts';

/** What `/readyz` and the log say of the app. */
export type UpstreamStatus =
  | { readonly state: 'up' }
  | { readonly state: 'down'; readonly reason: string; readonly forMs: number };

export interface UpstreamHealth {
  isUp(): boolean;
  status(): UpstreamStatus;
  /** Begins to check, where a check is configured. */
  start(): void;
  /** A request has found nobody who listens. */
  noteRefused(): void;
  /** Resolves once nothing is under way; what comes later changes nothing. */
  stop(): Promise<void>;
}

export interface UpstreamHealthOptions {
  readonly clock: Clock;
  /** Undefined: the app is not asked while it is up. */
  readonly check: { readonly probe: Probe; readonly intervalMs: number } | undefined;
  /** Whether somebody listens again, where there is no check. */
  readonly connect: Probe;
  /**
   * Called when the app goes down, once for each further reason until it is back, and when it is
   * back. An app that fails in two ways by turns does not fill the log.
   */
  readonly onChange: (status: UpstreamStatus) => void;
}

/** An app that is down is looked at this often, in ms. */
export const PROBE_INTERVAL_MS = 1_000;
/** One check may fail by chance: a pause for garbage, a full queue. */
export const FAILURES_UNTIL_DOWN = 2;

const REFUSED = 'connection refused';

type State =
  /** `failures`: checks that failed in a row. */
  | { readonly kind: 'up'; readonly failures: number }
  | {
      readonly kind: 'down';
      readonly reason: string;
      readonly sinceMs: number;
      /** The reasons that were reported since it went down. */
      readonly reportedReasons: ReadonlySet<string>;
    };

const UP: State = { kind: 'up', failures: 0 };

export function createUpstreamHealth(options: UpstreamHealthOptions): UpstreamHealth {
  return new WatchedUpstream(options);
}

class WatchedUpstream implements UpstreamHealth {
  readonly #options: UpstreamHealthOptions;
  readonly #stopped = new AbortController();
  #state: State = UP;
  #cancelNext: Cancel | undefined;
  #probing: Promise<void> | undefined;

  constructor(options: UpstreamHealthOptions) {
    this.#options = options;
  }

  isUp(): boolean {
    return this.#state.kind === 'up';
  }

  status(): UpstreamStatus {
    const state = this.#state;
    if (state.kind === 'up') return { state: 'up' };
    const { reason, sinceMs } = state;
    const forMs = Math.round(this.#options.clock.monotonicMs() - sinceMs);
    return { state: 'down', reason, forMs };
  }

  start(): void {
    if (this.#options.check) this.#probe();
  }

  noteRefused(): void {
    if (this.#stopped.signal.aborted || this.#state.kind === 'down') return;
    this.#goDown(REFUSED);
    this.#scheduleNext();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#cancelNext?.();
    await this.#probing;
  }

  #probe(): void {
    const { check, connect } = this.#options;
    const { signal } = this.#stopped;
    if (signal.aborted || this.#probing) return;
    const probe = check?.probe ?? connect;
    const stateBefore = this.#state;
    this.#probing = probe(signal).then((outcome) => {
      this.#probing = undefined;
      if (signal.aborted) return;
      // What a probe has found before a request was refused is out of date.
      if (this.#state === stateBefore) this.#weigh(outcome);
      this.#scheduleNext();
    });
  }

  #weigh(outcome: ProbeOutcome): void {
    const state = this.#state;
    if (outcome.kind === 'passed') {
      this.#state = UP;
      if (state.kind === 'down') this.#options.onChange(this.status());
    } else if (state.kind === 'down') {
      this.#stayDown(state, outcome.reason);
    } else if (state.failures + 1 < FAILURES_UNTIL_DOWN) {
      this.#state = { kind: 'up', failures: state.failures + 1 };
    } else {
      this.#goDown(outcome.reason);
    }
  }

  #goDown(reason: string): void {
    const sinceMs = this.#options.clock.monotonicMs();
    this.#state = { kind: 'down', reason, sinceMs, reportedReasons: new Set([reason]) };
    this.#options.onChange(this.status());
  }

  #stayDown(state: State & { kind: 'down' }, reason: string): void {
    this.#state = {
      ...state,
      reason,
      reportedReasons: new Set([...state.reportedReasons, reason]),
    };
    if (!state.reportedReasons.has(reason)) this.#options.onChange(this.status());
  }

  /** In place of one that was scheduled earlier; the end of one under way schedules by itself. */
  #scheduleNext(): void {
    this.#cancelNext?.();
    const waitMs = this.#msUntilNext();
    this.#cancelNext =
      waitMs === undefined ? undefined : this.#options.clock.after(waitMs, () => this.#probe());
  }

  #msUntilNext(): number | undefined {
    const intervalMs = this.#options.check?.intervalMs;
    if (this.#state.kind === 'up') return intervalMs;
    return Math.min(PROBE_INTERVAL_MS, intervalMs ?? PROBE_INTERVAL_MS);
  }
}
