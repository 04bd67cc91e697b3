/** A unified diff of two texts, as `diff -u` prints it. */

const CONTEXT = 3;

interface Row {
  readonly kind: ' ' | '-' | '+';
  readonly line: string;
}

/** Empty if the texts are the same. */
export function unifiedDiff(name: string, before: string, after: string): string {
  if (before === after) return '';
  const rows = rowsOf(linesIn(before), linesIn(after));
  const hunks = hunksOf(rows).map(([from, to]) => hunkText(rows, from, to));
  return `--- ${name}\n+++ ${name}\n${hunks.join('')}`;
}

/** A line break at the end begins no line. */
function linesIn(text: string): string[] {
  return text === '' ? [] : text.replace(/\r?\n$/, '').split(/\r?\n/);
}

/** By the longest common subsequence. */
function rowsOf(before: readonly string[], after: readonly string[]): Row[] {
  const lengths = before.map(() => new Uint32Array(after.length + 1));
  lengths.push(new Uint32Array(after.length + 1));
  const at = (i: number, j: number): number => lengths[i]?.[j] ?? 0;
  for (let i = before.length - 1; i >= 0; i--) {
    const row = lengths[i] ?? new Uint32Array();
    for (let j = after.length - 1; j >= 0; j--) {
      row[j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const rows: Row[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && before[i] === after[j]) {
      rows.push({ kind: ' ', line: before[i] ?? '' });
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && at(i + 1, j) >= at(i, j + 1))) {
      rows.push({ kind: '-', line: before[i] ?? '' });
      i += 1;
    } else {
      rows.push({ kind: '+', line: after[j] ?? '' });
      j += 1;
    }
  }
  return rows;
}

/** Ranges of rows, with their context; those that touch are one. */
function hunksOf(rows: readonly Row[]): (readonly [number, number])[] {
  const hunks: [number, number][] = [];
  for (const [index, { kind }] of rows.entries()) {
    if (kind === ' ') continue;
    const [from, to] = [Math.max(0, index - CONTEXT), Math.min(rows.length, index + CONTEXT + 1)];
    const last = hunks.at(-1);
    if (last && from <= last[1]) last[1] = to;
    else hunks.push([from, to]);
  }
  return hunks;
}

function hunkText(rows: readonly Row[], from: number, to: number): string {
  const shown = rows.slice(from, to);
  const rangeOf = (kind: Row['kind']): string => {
    const count = (of: readonly Row[]): number =>
      of.filter((row) => row.kind === ' ' || row.kind === kind).length;
    const length = count(shown);
    return `${count(rows.slice(0, from)) + (length === 0 ? 0 : 1)},${length}`;
  };
  const lines = shown.map(({ kind, line }) => `${kind}${line}\n`).join('');
  return `@@ -${rangeOf('-')} +${rangeOf('+')} @@\n${lines}`;
}
