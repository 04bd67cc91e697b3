/**
 * The comments by which `init` finds again what it wrote, in files where `#` begins a comment:
 *
 *   key = new # fly-affinity: was old        a value that it changed, and what was there
 *   key = value # fly-affinity               a line that it added
 *   # fly-affinity: begin                    lines that it added, up to
 *   # fly-affinity: end
 *   # fly-affinity: was LINE                 a line that it took out, among those
 */
import { linesOfPeople } from './own-lines.ts';

export const BEGIN = '# fly-affinity: begin (fly-affinity init --remove undoes this)';
export const END = '# fly-affinity: end';
export const ADDED = ' # fly-affinity';
export const WAS = '# fly-affinity: was ';

const BEGIN_LINE = /^\s*# fly-affinity: begin\b/;
const END_LINE = /^\s*# fly-affinity: end\s*$/;
const WAS_LINE = /^\s*# fly-affinity: was (.*\s*)$/;
const ADDED_LINE = / # fly-affinity(?=\s*$)/;
/** The key may be quoted. */
const CHANGED_LINE =
  /^((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^=:#"'])+[=:]\s*).*? # fly-affinity: was (.*\s*)$/;
const IS_MARKED = / # fly-affinity(?:: was .*)?$/;

export function hasMarks(text: string): boolean {
  return /# fly-affinity(?:: (?:begin|was)\b|\s*$)/m.test(text);
}

/** The text as it was before `init`, with what people have changed since then, also among its lines. */
export function withoutMarks(text: string): string {
  const lines = linesOf(text);
  const kept: string[] = [];
  let block: string[] | undefined;
  for (const [index, line] of lines.entries()) {
    if (BEGIN_LINE.test(line)) block = [];
    else if (END_LINE.test(line)) {
      kept.push(...linesOfPeople(block ?? []));
      block = undefined;
    } else if (WAS_LINE.test(line)) kept.push(line.replace(WAS_LINE, '$1'));
    else if (block) block.push(line);
    else if (!ADDED_LINE.test(line)) kept.push(line.replace(CHANGED_LINE, '$1$2'));
    else if (hasLinesOfPeople(lines, index)) kept.push(line.replace(ADDED_LINE, ''));
  }
  // A block at the end of a file has an empty line in front.
  if (endsWithBlock(text) && kept.at(-1)?.trim() === '') kept.pop();
  return kept.join('');
}

/** Whether a key of YAML that `init` added has a value below it that a person added. */
function hasLinesOfPeople(lines: readonly string[], index: number): boolean {
  const key = lines[index] ?? '';
  if (!/:\s*# fly-affinity\s*$/.test(key)) return false;
  const indentOf = (line: string): number => line.search(/\S/);
  const below = lines.slice(index + 1);
  const end = below.findIndex((line) => line.trim() !== '' && indentOf(line) <= indentOf(key));
  const inside = end < 0 ? below : below.slice(0, end);
  return inside.some((line) => line.trim() !== '' && !ADDED_LINE.test(line));
}

/** With their ends. */
export function linesOf(text: string): string[] {
  return text.split(/(?<=\n)/);
}

export function endOfLine(text: string): string {
  return text.includes('\r\n') ? '\r\n' : '\n';
}

export function endsWithBlock(text: string): boolean {
  return END_LINE.test(linesOf(text.trimEnd()).at(-1) ?? '');
}

export function isInBlock(text: string, at: number): boolean {
  const before = linesOf(text.slice(0, at));
  return (
    before.findLastIndex((line) => BEGIN_LINE.test(line)) >
    before.findLastIndex((line) => END_LINE.test(line))
  );
}

/**
 * A line with another value between these offsets, and the old one in its mark. Undefined if the value spans
 * lines, which no comment can keep.
 */
export function withChangedValue(
  text: string,
  { start, end }: { readonly start: number; readonly end: number },
  value: string,
): string | undefined {
  const lineEnd = /\r?\n|$/.exec(text.slice(start));
  const rest = text.slice(start, start + (lineEnd?.index ?? 0));
  if (end > start + rest.length) return undefined;
  const after = text.slice(end, start + rest.length);
  const mark = IS_MARKED.test(after) || isInBlock(text, start) ? after : ` ${WAS}${rest}`;
  return text.slice(0, start) + value + mark + text.slice(start + rest.length);
}
