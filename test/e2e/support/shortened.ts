/** Shortens lists in messages: after many errors the first lines are enough. */

const MAX_LINES = 30;

export function shortened(lines: readonly string[]): string[] {
  const left = lines.length - MAX_LINES;
  return left > 0 ? [...lines.slice(0, MAX_LINES), `and ${left} more`] : [...lines];
}
