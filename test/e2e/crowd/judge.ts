/** Which visits violate the guarantees. */
import type { Ledger } from '../support/ledger.ts';
import { shortened } from '../support/shortened.ts';
import type { Visit } from './guest.ts';

/**
 * Invalid results, and every end of a session that the app had not lost; none: every visit is
 * valid.
 */
export function faultsOf(visits: readonly Visit[], ledger: Pick<Ledger, 'endOf'>): string[] {
  const faults = visits.flatMap((visit) => {
    const fault = faultOf(visit, ledger);
    return fault === undefined ? [] : [`${visit.protocol}: ${fault}`];
  });
  return shortened(faults);
}

/**
 * The app had ended the session, or lost it with its memory, before the client received the
 * response.
 */
export function hasEnded({ session, at }: Visit, ledger: Pick<Ledger, 'endOf'>): boolean {
  return session !== undefined && (ledger.endOf(session) ?? Infinity) <= at;
}

function faultOf(visit: Visit, ledger: Pick<Ledger, 'endOf'>): string | undefined {
  const { outcome, session = '', detail } = visit;
  if (outcome === 'wrong') return detail;
  if (outcome !== 'gone' || hasEnded(visit, ledger)) return undefined;
  return `the session ${session} was reported gone, and was not`;
}
