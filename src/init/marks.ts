/**
 * The comments by which `init` finds again what it wrote, in files where `#` begins a comment:
 *
 *   key = new # fly-affinity: was old        a value that it changed, and what was there
 *   key = value # fly-affinity               a line that it added
 *   # fly-affinity: begin                    lines that it added, up to
 *   # fly-affinity: end
 *   # fly-affinity: was LINE                 a line that it took out, among those
 */

export const BEGIN = '# fly-affinity: begin (fly-affinity init --remove undoes this)';
export const END = '# fly-affinity: end';
export const ADDED = ' # fly-affinity';
export const WAS = '# fly-affinity: was ';

const BEGIN_LINE = /^\s*# fly-affinity: begin\b/;
const END_LINE = /^\s*# fly-affinity: end\s*$/;
const WAS_LINE = /^\s*# fly-affinity: was (.*\s*)$/;
const ADDED_LINE = / # fly-affinity\s*$/;
/** The key may be quoted. */
const CHANGED_LINE =
  /^((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^=:#"'])+[=:]\s*).*? # fly-affinity: was (.*\s*)$/;
const IS_MARKED = / # fly-affinity(?:: was .*)?$/;

export function hasMarks(text: string): boolean {
  return /# fly-affinity(?:: (?:begin|was)\b|\s*$)/m.test(text);
}

/** The text as it was before `init`, with what people have changed since then elsewhere. */
export function withoutMarks(text: string): string {
  const kept: string[] = [];
  let isInBlock = false;
  for (const line of linesOf(text)) {
    if (BEGIN_LINE.test(line)) isInBlock = true;
    else if (END_LINE.test(line)) isInBlock = false;
    else if (WAS_LINE.test(line)) kept.push(line.replace(WAS_LINE, '$1'));
    else if (!isInBlock && !ADDED_LINE.test(line)) kept.push(line.replace(CHANGED_LINE, '$1$2'));
  }
  // A block at the end of a file has an empty line in front.
  if (endsWithBlock(text) && kept.at(-1)?.trim() === '') kept.pop();
  return kept.join('');
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
