/** This Machine's clock against those of the Machines and the database that it has asked anyway. */
import { note, ok, warning, type Finding } from './report.ts';

export interface ClockFacts {
  /** As in "the clock of {whose}". */
  readonly whose: string;
  /** How far theirs is ahead of ours, in ms. */
  readonly offsetMs: number;
  /** By how much that may be wrong. */
  readonly toleranceMs: number;
}

/** A claim of two Machines is settled by the earlier one, and a Machine that woke takes a moment. */
const MAX_OFFSET_MS = 5_000;

export function checkClocks(clocks: readonly ClockFacts[]): Finding[] {
  if (clocks.length === 0) {
    return [note('The clock was not compared.', 'Neither a Machine nor a database has answered.')];
  }
  const wrong = clocks.filter(
    ({ offsetMs, toleranceMs }) => Math.abs(offsetMs) > MAX_OFFSET_MS + toleranceMs,
  );
  if (wrong.length === 0) {
    return [ok(`The clock agrees with ${clocks.map(({ whose }) => whose).join(', ')}.`)];
  }
  return wrong.map(({ whose, offsetMs }) =>
    warning(
      `The clock is ${Math.round(Math.abs(offsetMs) / 1000)} s ${offsetMs > 0 ? 'behind' : 'ahead of'} that of ${whose}.`,
      'Of two Machines that took one session, the earlier one keeps it: with a wrong clock that is the wrong one.',
      'a Machine that was suspended sets its clock a moment after it wakes; if it stays so, restart it',
    ),
  );
}

/**
 * How far another clock is ahead, by the time it gave in an answer. `precisionMs`: how far apart the
 * times are that it can give; of a `Date` field (RFC 9110 §6.6.1) that is a second.
 */
export function compareClock(
  whose: string,
  theirMs: number,
  precisionMs: number,
  asked: { readonly atMs: number; readonly roundTripMs: number },
): ClockFacts {
  const offsetMs = theirMs + precisionMs / 2 - (asked.atMs + asked.roundTripMs / 2);
  return { whose, offsetMs, toleranceMs: (precisionMs + asked.roundTripMs) / 2 };
}
