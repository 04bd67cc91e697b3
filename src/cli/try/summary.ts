/** The figures of a trial. */
import type { TrialCall, TrialSession } from './traffic.ts';
import type { TrialResult } from './trial.ts';

export interface Summary {
  /** That were made. */
  readonly calls: number;
  /** That were planned, and not made. */
  readonly notMade: number;
  readonly lost: number;
  /** The app of another Machine answered, and did not say whether it had the session. */
  readonly elsewhere: number;
  /** Calls that Fly Proxy replayed. */
  readonly replayed: number;
  /** How often each reason was given, the most frequent first. */
  readonly reasons: readonly (readonly [string, number])[];
  /** Of the calls with a response, in ms. */
  readonly medianMs: number;
  readonly p95Ms: number;
}

export function summaryOf({ sessions, callsPlanned }: TrialResult): Summary {
  const calls = sessions.flatMap((session) => session.calls);
  const times = calls.filter(({ ms }) => ms > 0).map(({ ms }) => ms);
  return {
    calls: calls.length,
    notMade: sessions.length * callsPlanned - calls.length,
    lost: calls.filter(({ loss }) => loss).length,
    elsewhere: calls.filter(({ isElsewhere }) => isElsewhere).length,
    replayed: calls.filter(({ replays }) => replays > 0).length,
    reasons: reasonsOf(calls),
    medianMs: quantile(times, 0.5),
    p95Ms: quantile(times, 0.95),
  };
}

export function reasonsOf(calls: TrialSession['calls']): readonly (readonly [string, number])[] {
  const counts = new Map<string, number>();
  for (const reason of calls.flatMap((call) => reasonOf(call) ?? []))
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one);
}

function reasonOf({ loss, isElsewhere }: TrialCall): string | undefined {
  return loss?.why ?? (isElsewhere ? 'another Machine answered' : undefined);
}

function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
