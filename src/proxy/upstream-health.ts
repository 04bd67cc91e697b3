/**
 * The health of the local app. A refused connection marks it down at once; two failed checks in a row, if
 * a check is configured, do too. One successful probe marks it up again.
 *
 *   up --refused, or the second failed check--> down --a probe passes--> up
 *
 * Nothing runs while it is up and no check is configured. At most one probe runs at a time.
 */
import type { Cancel, Clock } from '../clock.ts';
import type { Probe, ProbeOutcome } from './upstream-probes.ts';

/** The status of the app in `/readyz` and the log. */
export type UpstreamStatus =
  | { readonly state: 'up' }
  | { readonly state: 'down'; readonly reason: string; readonly forMs: number };

export interface UpstreamHealth {
  isUp(): boolean;
  status(): UpstreamStatus;
  /** Starts the check, if one is configured. */
  start(): void;
  /** A request found no listener. */
  noteRefused(): void;
  /** Resolves when no probe runs; later results change nothing. */
  stop(): Promise<void>;
}

export interface UpstreamHealthOptions {
  readonly clock: Clock;
  /** Undefined: the app is not probed while it is up. */
  readonly check: { readonly probe: Probe; readonly intervalMs: number } | undefined;
  /** Probes for a listener, if no check is configured. */
  readonly connect: Probe;
  /**
   * Called when the app goes down, once for each further reason until it is up again, and when it is up
   * again. So an app that alternates between two failures does not fill the log.
   */
  readonly onChange: (status: UpstreamStatus) => void;
}

/** How often an app that is down is probed, in ms. */
export const PROBE_INTERVAL_MS = 1_000;
/** One check may fail by chance: a garbage collection, a full queue. */
export const FAILURES_UNTIL_DOWN = 2;

const REFUSED = 'connection refused';

type State =
  /** `failures`: the number of failed checks in a row. */
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
      // A probe result from before a refused request is out of date.
      if (this.#state === stateBefore) this.#applyOutcome(outcome);
      this.#scheduleNext();
    });
  }

  #applyOutcome(outcome: ProbeOutcome): void {
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

  /** Replaces an earlier schedule. The end of a running probe schedules the next itself. */
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
