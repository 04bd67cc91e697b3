/**
 * The pattern of `path:REGEX`. Clients choose the path, and a pattern with two ways to match the same text may
 * take for ever to find that neither does. So only patterns are accepted whose matching takes a time linear in
 * the path's length:
 *
 * - They begin with `^`, and what may be repeated is one character or class, never a group.
 * - A repetition ends at a character that it can't match itself: `[^/]+/`. So there is one way to match it,
 *   and no other to try when the rest does not match.
 * - Alternatives and optional parts, which do multiply, are few, and hold no repetitions.
 */

/** Longer paths are searched up to here: an id that begins later does not count. */
export const MAX_PATH_CHARACTERS = 4_096;
/** Limit on `|` and `?`: each doubles the work at most. */
const MAX_CHOICES = 8;
const LATIN_1 = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));

/** One piece of a pattern's source. */
type Token =
  | { readonly kind: 'one'; readonly text: string; readonly quantifier: Quantifier }
  | { readonly kind: 'open' | 'bar' | 'end'; readonly text: string }
  | { readonly kind: 'close'; readonly text: string; readonly quantifier: Quantifier };
/** `fixed`: `{3}`; `optional`: `?`; `repeated`: all others. */
type Quantifier = 'none' | 'fixed' | 'optional' | 'repeated';

/** A class, an escaped or a plain character. */
const ONE = /\[\^?(?:\\.|[^\]\\])+\]|\\.|[^\\^$|?*+{}()[\]]/y;
const OPEN = /\((?:\?:|\?<[A-Za-z]\w*>)?(?!\?)/y;
const QUANTIFIER = /(?:[*+?]|\{\d+(?:,\d*)?\})\??/y;
/** Back-references, `\b` and the like are no character. */
const UNREADABLE_ESCAPE = /^\\[^dDwWsS\W_]/;

type ParsedPattern =
  | { readonly pattern: RegExp; readonly mistake?: never }
  | { readonly pattern?: never; readonly mistake: string };

/** A mistake is the end of a sentence that begins with the pattern. */
export function parsePathPattern(source: string): ParsedPattern {
  const pattern = compile(source);
  if (!pattern) return { mistake: 'is no regular expression' };
  if (countGroups(source) === 0) return { mistake: 'has no group (...) for the id' };
  if (!source.startsWith('^')) return { mistake: 'must begin with ^' };
  const tokens = readTokens(source.slice(1));
  if (typeof tokens === 'string') return { mistake: `may not use ${tokens}` };
  const mistake = findSlowPart(tokens);
  return mistake === undefined ? { pattern } : { mistake };
}

/** `d`: the log masks the group, so its position must be known. */
function compile(source: string): RegExp | undefined {
  try {
    return new RegExp(source, 'd');
  } catch {
    // The message of V8 adds little to the pattern itself.
    return undefined;
  }
}

/** The empty alternative matches, and then each group is there, though without a value. */
function countGroups(source: string): number {
  return (new RegExp(`${source}|`).exec('')?.length ?? 1) - 1;
}

/** The tokens, or the text that can't be one: a look-around, a back-reference, an anchor in the middle. */
function readTokens(text: string): readonly Token[] | string {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length;) {
    const read = readToken(text, at);
    if (!read) return JSON.stringify(text.slice(at, at + 3));
    tokens.push(read.token);
    at = read.end;
  }
  return tokens;
}

function readToken(text: string, at: number): { token: Token; end: number } | undefined {
  if (text[at] === '|') return { token: { kind: 'bar', text: '|' }, end: at + 1 };
  if (text[at] === '$' && at === text.length - 1) {
    return { token: { kind: 'end', text: '$' }, end: at + 1 };
  }
  const open = matchAt(OPEN, text, at);
  if (open !== undefined) return { token: { kind: 'open', text: open }, end: at + open.length };
  const one = text[at] === ')' ? ')' : matchAt(ONE, text, at);
  if (one === undefined || UNREADABLE_ESCAPE.test(one)) return undefined;
  const end = at + one.length;
  const suffix = matchAt(QUANTIFIER, text, end) ?? '';
  const kind = one === ')' ? 'close' : 'one';
  const token = { kind, text: one + suffix, quantifier: quantifierOf(suffix) } as const;
  return {
    token: kind === 'one' ? { ...token, kind, text: one } : { ...token, kind },
    end: end + suffix.length,
  };
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

function quantifierOf(suffix: string): Quantifier {
  if (suffix === '') return 'none';
  if (/^\{[1-9]\d*\}\??$/.test(suffix)) return 'fixed';
  return /^\?\??$/.test(suffix) ? 'optional' : 'repeated';
}

function findSlowPart(tokens: readonly Token[]): string | undefined {
  const choices = tokens.filter(
    (token) => token.kind === 'bar' || ('quantifier' in token && token.quantifier === 'optional'),
  );
  if (hasChoiceOutside(tokens)) return 'has | outside of a group';
  if (choices.length > MAX_CHOICES) return `has more than ${MAX_CHOICES} of | and ?`;
  for (const [at, token] of tokens.entries()) {
    if (
      token.kind === 'close' &&
      (token.quantifier === 'repeated' || token.quantifier === 'fixed')
    ) {
      return `repeats a group (${JSON.stringify(token.text)}): repeat a class instead, such as [^/]+`;
    }
    if (token.kind !== 'one' || token.quantifier !== 'repeated') continue;
    if (isWithinChoice(tokens, at)) return 'repeats within alternatives or an optional group';
    const mistake = findOverlap(token.text, tokens, at);
    if (mistake !== undefined) return mistake;
  }
  return undefined;
}

/** After a repetition must come a character that it can't match, or the end. */
function findOverlap(repeated: string, tokens: readonly Token[], at: number): string | undefined {
  const nextAt = tokens.findIndex(({ kind }, i) => i > at && kind !== 'open' && kind !== 'close');
  const next = tokens[nextAt];
  if (!next || next.kind === 'end') return undefined;
  const isOne = next.kind === 'one' && (next.quantifier === 'none' || next.quantifier === 'fixed');
  const isCertain = isOne && !isWithinChoice(tokens, nextAt);
  if (isCertain && !overlaps(repeated, next.text)) return undefined;
  return `repeats ${repeated} with ${next.text} behind it: end each repetition at a character that it can't take, such as [^/]+/`;
}

function overlaps(one: string, other: string): boolean {
  const [isOne, isOther] = [new RegExp(`^${one}$`), new RegExp(`^${other}$`)];
  return LATIN_1.some((character) => isOne.test(character) && isOther.test(character));
}

/** Whether a group around that token has alternatives, or is optional. */
function isWithinChoice(tokens: readonly Token[], at: number): boolean {
  return readGroups(tokens).some(({ start, end, isChoice }) => isChoice && start < at && at < end);
}

function hasChoiceOutside(tokens: readonly Token[]): boolean {
  const groups = readGroups(tokens);
  return tokens.some(
    ({ kind }, at) => kind === 'bar' && !groups.some(({ start, end }) => start < at && at < end),
  );
}

interface Group {
  readonly start: number;
  readonly end: number;
  /** It has alternatives, or is optional. */
  readonly isChoice: boolean;
}

function readGroups(tokens: readonly Token[]): readonly Group[] {
  const groups: Group[] = [];
  const open: { readonly start: number; hasBar: boolean }[] = [];
  for (const [at, token] of tokens.entries()) {
    if (token.kind === 'open') open.push({ start: at, hasBar: false });
    const innermost = open.at(-1);
    if (token.kind === 'bar' && innermost) innermost.hasBar = true;
    if (token.kind !== 'close' || !innermost) continue;
    open.pop();
    const isChoice = innermost.hasBar || token.quantifier === 'optional';
    groups.push({ start: innermost.start, end: at, isChoice });
  }
  return groups;
}
