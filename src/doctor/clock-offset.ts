/** Compares this Machine's clock with those of the Machines and the database that the doctor probes. */
import type { MachineId } from '../session.ts';
import type { ProbeResponse } from './probe.ts';
import { note, ok, warning, type Finding } from './report.ts';

export interface ClockFacts {
  /** As in "the clock of {whose}". */
  readonly whose: string;
  /** How far that clock is ahead of ours, in ms. */
  readonly offsetMs: number;
  /** The possible error of `offsetMs`. */
  readonly toleranceMs: number;
}

/** The earlier of two claims wins. A Machine that resumes needs a moment to set its clock. */
const MAX_OFFSET_MS = 5_000;

export function checkClocks(clocks: readonly ClockFacts[]): Finding[] {
  if (clocks.length === 0) {
    return [note('The clock was not checked.', 'No other Machine and no database responded.')];
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
      'If two Machines claim one session, the earlier claim wins: with a wrong clock the wrong Machine gets the session.',
      'a resumed Machine sets its clock after a moment; if the offset stays, restart the Machine',
    ),
  );
}

/**
 * How far another clock is ahead, by the time in its response. `precisionMs`: the resolution of that
 * time; one second for a `Date` field (RFC 9110 §6.6.1).
 */
export function compareClock(
  whose: string,
  theirMs: number,
  precisionMs: number,
  request: { readonly atMs: number; readonly roundTripMs: number },
): ClockFacts {
  const offsetMs = theirMs + precisionMs / 2 - (request.atMs + request.roundTripMs / 2);
  return { whose, offsetMs, toleranceMs: (precisionMs + request.roundTripMs) / 2 };
}

/** A `Date` field has no fractions. */
const DATE_PRECISION_MS = 1_000;

/** The clock of a Machine, if its response has a time. */
export function clockOf(machine: MachineId, response: ProbeResponse): ClockFacts[] {
  if (response.kind === 'failed' || response.dateMs === undefined) return [];
  return [compareClock(machine, response.dateMs, DATE_PRECISION_MS, response)];
}
