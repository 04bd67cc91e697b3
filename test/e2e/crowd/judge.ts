/** Which visits went as they never should. */
import type { Ledger } from '../support/ledger.ts';
import { shortened } from '../support/shortened.ts';
import type { Visit } from './guest.ts';

/** What is wrong in itself, and every end of a session that the app had not lost; none: all is well. */
export function faultsOf(visits: readonly Visit[], ledger: Pick<Ledger, 'endOf'>): string[] {
  const faults = visits.flatMap((visit) => {
    const fault = faultOf(visit, ledger);
    return fault === undefined ? [] : [`${visit.protocol}: ${fault}`];
  });
  return shortened(faults);
}

function faultOf(
  { outcome, session, at, detail }: Visit,
  ledger: Pick<Ledger, 'endOf'>,
): string | undefined {
  if (outcome === 'wrong') return detail;
  if (outcome !== 'gone' || session === undefined) return undefined;
  const isLost = (ledger.endOf(session) ?? Infinity) <= at;
  return isLost ? undefined : `the session ${session} was said to be gone, and was not`;
}
