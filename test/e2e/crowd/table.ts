/** The results of a crowd, counted by protocol, as a text table. */
import type { Ledger } from '../support/ledger.ts';
import type { Visit } from './guest.ts';
import { hasEnded } from './judge.ts';

/** `later, live`: of these, the ones for a session that had not been lost. */
const COLUMNS: Readonly<Record<string, (visit: Visit, ledger: Pick<Ledger, 'endOf'>) => boolean>> =
  {
    calls: () => true,
    answered: ({ outcome }) => outcome === 'answered',
    gone: ({ outcome }) => outcome === 'gone',
    later: ({ outcome }) => outcome === 'later',
    'later, live': (visit, ledger) => visit.outcome === 'later' && !hasEnded(visit, ledger),
    cut: ({ outcome }) => outcome === 'cut',
    wrong: ({ outcome }) => outcome === 'wrong',
  };

export function tableOf(visits: readonly Visit[], ledger: Pick<Ledger, 'endOf'>): string[] {
  const protocols = [...new Set(visits.map(({ protocol }) => protocol))];
  const rows = protocols.map((protocol) => {
    const own = visits.filter((visit) => visit.protocol === protocol);
    const counts = Object.values(COLUMNS).map(
      (belongs) => own.filter((visit) => belongs(visit, ledger)).length,
    );
    const longest = Math.max(...own.map(({ tookMs }) => tookMs));
    return [protocol, ...[...counts, Math.round(longest)].map(String)];
  });
  return aligned([['client', ...Object.keys(COLUMNS), 'longest, ms'], ...rows]);
}

/** How calls were cut off, and how often. */
export function cutsOf(visits: readonly Visit[]): string[] {
  const counts = new Map<string, number>();
  for (const { outcome, detail = '' } of visits) {
    if (outcome === 'cut') counts.set(detail, (counts.get(detail) ?? 0) + 1);
  }
  return [...counts].map(([how, count]) => `${count} × cut: ${how}`);
}

/** The first column is text, the others are numbers. */
export function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  '),
  );
}
