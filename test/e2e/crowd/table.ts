/** What a crowd got to hear, counted by protocol, for people to read. */
import type { Visit } from './guest.ts';
import { OUTCOME_KINDS } from './outcome.ts';

export function tableOf(visits: readonly Visit[]): string[] {
  const protocols = [...new Set(visits.map(({ protocol }) => protocol))];
  const rows = protocols.map((protocol) => {
    const own = visits.filter((visit) => visit.protocol === protocol);
    const counts = OUTCOME_KINDS.map(
      (kind) => own.filter(({ outcome }) => outcome === kind).length,
    );
    const longest = Math.max(...own.map(({ tookMs }) => tookMs));
    return [protocol, ...[own.length, ...counts, Math.round(longest)].map(String)];
  });
  return aligned([['client', 'calls', ...OUTCOME_KINDS, 'longest, ms'], ...rows]);
}

/** How calls were cut off, and how often. */
export function cutsOf(visits: readonly Visit[]): string[] {
  const counts = new Map<string, number>();
  for (const { outcome, detail = '' } of visits) {
    if (outcome === 'cut') counts.set(detail, (counts.get(detail) ?? 0) + 1);
  }
  return [...counts].map(([how, count]) => `${count} × cut: ${how}`);
}

function aligned(rows: readonly (readonly string[])[]): string[] {
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
