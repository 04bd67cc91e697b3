/** Durations as people read them. */

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** Its two largest units, as in `2h5m`; `0s` for zero and less. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  if (first === -1) return '0s';
  let rest = seconds;
  return UNITS.map(([unit, size], index) => {
    const count = Math.floor(rest / size);
    rest %= size;
    const isShown = index === first || (index === first + 1 && count > 0);
    return isShown ? `${count}${unit}` : '';
  }).join('');
}
