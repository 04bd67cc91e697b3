/** Colours on a terminal, and tables. */
import type { Environment } from '../../config/environment.ts';

export interface Style {
  readonly good: Paint;
  readonly bad: Paint;
  readonly strong: Paint;
  readonly faint: Paint;
}

type Paint = (text: string) => string;

const PLAIN: Style = { good: same, bad: same, strong: same, faint: same };

function same(text: string): string {
  return text;
}

/** ECMA-48, "SGR". */
const COLOURS: Style = {
  good: (text) => `\x1b[32m${text}\x1b[39m`,
  bad: (text) => `\x1b[31m${text}\x1b[39m`,
  strong: (text) => `\x1b[1m${text}\x1b[22m`,
  faint: (text) => `\x1b[2m${text}\x1b[22m`,
};

/** https://no-color.org: any value but an empty one turns colours off. */
export function styleFor(isTerminal: boolean, { NO_COLOR, TERM }: Environment): Style {
  const hasColours = isTerminal && (NO_COLOR ?? '') === '' && TERM !== 'dumb';
  return hasColours ? COLOURS : PLAIN;
}

/** Columns as wide as they need to be, each line with two spaces before it. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, widthOf(cell));
    });
  return rows.map((row) => `  ${formatRow(row, widths)}`.trimEnd()).join('\n');
}

function formatRow(row: readonly string[], widths: readonly number[]): string {
  const cells = row.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)));
  return cells.join('  ');
}

/** Without what only sets a colour. */
function widthOf(text: string): number {
  return text.replace(/\x1b\[\d+m/g, '').length;
}
