/** Lists that people read: when everything is wrong, the first lines say what. */

const MAX_LINES = 30;

export function shortened(lines: readonly string[]): string[] {
  const left = lines.length - MAX_LINES;
  return left > 0 ? [...lines.slice(0, MAX_LINES), `and ${left} more`] : [...lines];
}
