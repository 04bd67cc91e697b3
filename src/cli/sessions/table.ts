/** Sessions as lines of a table, for people. */
import type { Binding } from '../../session.ts';

/** Fly's own Machine ids have 14 characters; a longer one moves its line. */
const COLUMNS = [
  ['KEY', 32],
  ['OWNER', 14],
  ['ORIGIN', 7],
  ['GENERATION', 10],
  ['AGE', 7],
  ['EXPIRES IN', 10],
] as const;

export const TABLE_HEAD = row(COLUMNS.map(([name]) => name));

export function tableRow(binding: Binding, now: number): string {
  const { key, machine, origin, generation, createdAt, expiresAt } = binding;
  const [age, left] = [now - createdAt, expiresAt - now].map(formatDuration);
  return row([key, machine, origin, String(generation), age ?? '', left ?? '']);
}

function row(cells: readonly string[]): string {
  const padded = COLUMNS.map(([, width], index) => (cells[index] ?? '').padEnd(width));
  return padded.join('  ').trimEnd();
}

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** Its two largest units, as in `2h5m`. What is not yet, or over already, is `0s`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  if (first === -1) return '0s';
  let left = seconds;
  return UNITS.map(([unit, size], index) => {
    const count = Math.floor(left / size);
    left %= size;
    const isShown = index === first || (index === first + 1 && count > 0);
    return isShown ? `${count}${unit}` : '';
  }).join('');
}
