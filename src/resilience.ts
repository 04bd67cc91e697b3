/**
 * Retry with exponential backoff and full jitter, and a circuit breaker. No I/O of its own: what is
 * tried, the clock and the random numbers are passed in.
 */
import type { Clock } from './clock.ts';

interface Backoff {
  /** Upper bound of the pause before the first retry, in ms; it doubles with each further one. */
  readonly delayMs: number;
  /** The bound grows no further than this many ms; half a minute unless given. */
  readonly maxDelayMs?: number;
}

const MAX_DELAY_MS = 30_000;

export interface RetryOptions extends Backoff {
  /** Tries after the first; 0 tries once. */
  readonly retryCount: number;
  readonly isRetryable: (error: unknown) => boolean;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Once it aborts there is no further try, and a pause under way ends. */
  readonly signal?: AbortSignal;
  /** Monotonic time from which on there is no further try; a pause that lasts until then is not begun. */
  readonly untilMs?: number;
}

/**
 * Runs `operation` until it succeeds, fails for good, or the retries are used up; rejects with the
 * error of the last try, unchanged. `attempt` counts from 0.
 */
export async function retry<T>(
  operation: (attempt: number) => T | Promise<T>,
  options: RetryOptions,
): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await operation(attempt);
    } catch (error) {
      const isLast = attempt >= options.retryCount || isAborted(options.signal);
      if (isLast || !options.isRetryable(error)) throw error;
      const pauseMs = backoffDelayMs(attempt, options, options.random);
      if (isTooLate(options, pauseMs)) throw error;
      if (pauseMs > 0) await options.clock.sleep(pauseMs, options.signal);
      // A pause may take longer than it should.
      if (isAborted(options.signal) || isTooLate(options, 0)) throw error;
    }
  }
}

/**
 * The pause before the retry after `attempt` (from 0), in ms: anything from 0 to the bound. Full
 * jitter, so that callers that failed together do not retry together
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export function backoffDelayMs(attempt: number, backoff: Backoff, random: () => number): number {
  const bound = Math.min(backoff.delayMs * 2 ** attempt, backoff.maxDelayMs ?? MAX_DELAY_MS);
  return random() * bound;
}

function isTooLate({ clock, untilMs = Infinity }: RetryOptions, inMs: number): boolean {
  return clock.monotonicMs() + inMs >= untilMs;
}

/** A function, as the signal may change while something is awaited. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted ?? false;
}

type BreakerState =
  | { readonly kind: 'closed'; readonly consecutiveFailures: number }
  /** `untilMs`: monotonic time from which on a probe is let through. */
  | { readonly kind: 'open'; readonly untilMs: number; readonly timesOpened: number }
  | { readonly kind: 'half-open'; readonly timesOpened: number };

/** One try that the breaker let through. Only the first call counts, and one of them must be made. */
export interface BreakerAttempt {
  succeeded(): void;
  failed(): void;
  /** The attempt ended without evidence about the other side (stopped, no longer needed). */
  abandoned(): void;
}

export interface CircuitBreaker {
  state(): BreakerState;
  /** Whether {@link CircuitBreaker.begin} would let a try through now; claims nothing. */
  mayBegin(): boolean;
  /** Lets a try through, or not (`undefined`). */
  begin(): BreakerAttempt | undefined;
}

interface CircuitBreakerOptions {
  /** So many failures without a success in between open it. */
  readonly failureThreshold: number;
  /** How long it stays open at first, in ms; doubles each time a probe fails. */
  readonly openMs: number;
  readonly maxOpenMs: number;
  readonly clock: Clock;
  /** From 0 to below 1: spreads the end of an opening over its second half. */
  readonly random: () => number;
}

/**
 * Blocks attempts while an operation keeps failing.
 *
 * ```
 * closed --failureThreshold failures in a row--> open --time is up, next begin()--> half-open
 *   ^                                              ^--------- the probe fails ----------'  |
 *   '------------------------------ the probe succeeds -----------------------------------'
 * ```
 * Half-open lets one probe through at a time; an abandoned probe makes room for the next. What was
 * begun before the last change of state has no say any more.
 */
export function createCircuitBreaker(options: CircuitBreakerOptions): CircuitBreaker {
  const { clock } = options;
  let state: BreakerState = { kind: 'closed', consecutiveFailures: 0 };
  /** Counts the changes between closed, open and half-open; an attempt belongs to the one it began in. */
  let era = 0;

  function change(next: BreakerState): void {
    if (next.kind !== state.kind) era += 1;
    state = next;
  }

  function mayBegin(): boolean {
    if (state.kind === 'open') return clock.monotonicMs() >= state.untilMs;
    return state.kind === 'closed';
  }

  function begin(): BreakerAttempt | undefined {
    if (!mayBegin()) return undefined;
    if (state.kind === 'open') change({ kind: 'half-open', timesOpened: state.timesOpened });
    return attemptOf(era);
  }

  function attemptOf(ownEra: number): BreakerAttempt {
    let isResolved = false;
    const resolve = (next: () => BreakerState): void => {
      if (isResolved) return;
      isResolved = true;
      if (ownEra === era) change(next());
    };
    return {
      succeeded: () => resolve(() => ({ kind: 'closed', consecutiveFailures: 0 })),
      failed: () => resolve(() => afterFailure(state, options)),
      abandoned: () => resolve(() => afterAbandoned(state, clock)),
    };
  }

  return { state: () => state, mayBegin, begin };
}

function afterFailure(state: BreakerState, options: CircuitBreakerOptions): BreakerState {
  if (state.kind !== 'closed') return opened(state.timesOpened + 1, options);
  const consecutiveFailures = state.consecutiveFailures + 1;
  if (consecutiveFailures >= options.failureThreshold) return opened(1, options);
  return { kind: 'closed', consecutiveFailures };
}

/** After an abandoned probe the breaker stays open, and the next attempt may probe at once. */
function afterAbandoned(state: BreakerState, clock: Clock): BreakerState {
  if (state.kind !== 'half-open') return state;
  return { kind: 'open', untilMs: clock.monotonicMs(), timesOpened: state.timesOpened };
}

function opened(timesOpened: number, options: CircuitBreakerOptions): BreakerState {
  const bound = Math.min(options.openMs * 2 ** (timesOpened - 1), options.maxOpenMs);
  const openMs = bound / 2 + (options.random() * bound) / 2;
  return { kind: 'open', untilMs: options.clock.monotonicMs() + openMs, timesOpened };
}
