/**
 * Reads an id from JSON at a pointer (RFC 6901), also where only the beginning of a document is at hand: each
 * value is passed over in one pass, and nothing behind the id is read.
 */
import { parseJson } from '../json.ts';

/** The parts of a pointer; `undefined` if it is none. The empty pointer, the whole document, holds no id. */
export function parsePointer(text: string): readonly string[] | undefined {
  if (!text.startsWith('/') || /~(?![01])/.test(text)) return undefined;
  return text
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/**
 * The text of the string or number there, one character a byte as UTF-8, the same as in a head; `undefined` if the
 * document ends before it, or has another value there. `text`: one character a byte.
 */
export function readJsonId(text: string, pointer: readonly string[]): string | undefined {
  const at = findValue(text, skipBlanks(text, 0), pointer, 0);
  if (at === undefined) return undefined;
  const end = endOfScalar(text, at);
  if (end === undefined) return undefined;
  // Escapes name characters, and all else is UTF-8 already.
  const value = parseJson(Buffer.from(text.slice(at, end), 'latin1').toString('utf8'));
  if (typeof value === 'string') return Buffer.from(value, 'utf8').toString('latin1');
  return typeof value === 'number' ? text.slice(at, end) : undefined;
}

/** Deeper documents hold no id: each level is a call. */
const MAX_DEPTH = 16;

/** Where the value of that pointer begins. */
function findValue(
  text: string,
  at: number,
  pointer: readonly string[],
  depth: number,
): number | undefined {
  const part = pointer[depth];
  if (part === undefined) return at;
  if (depth === MAX_DEPTH) return undefined;
  const isObject = text[at] === '{';
  if (!isObject && text[at] !== '[') return undefined;
  let index = 0;
  for (let next = skipBlanks(text, at + 1); ;) {
    let isHere = String(index) === part;
    let valueAt = next;
    if (isObject) {
      const keyEnd = text[next] === '"' ? endOfString(text, next) : undefined;
      if (keyEnd === undefined) return undefined;
      isHere = keyOf(text, next, keyEnd) === part;
      const colon = skipBlanks(text, keyEnd);
      if (text[colon] !== ':') return undefined;
      valueAt = skipBlanks(text, colon + 1);
    }
    if (isHere) return findValue(text, valueAt, pointer, depth + 1);
    const end = endOfValue(text, valueAt);
    const comma = end === undefined ? undefined : skipBlanks(text, end);
    if (comma === undefined || text[comma] !== ',') return undefined;
    next = skipBlanks(text, comma + 1);
    index += 1;
  }
}

function keyOf(text: string, start: number, end: number): unknown {
  return parseJson(Buffer.from(text.slice(start, end), 'latin1').toString('utf8'));
}

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1;
  return at;
}

/** Just behind the closing quote. */
function endOfString(text: string, start: number): number | undefined {
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '"') return at + 1;
  }
  return undefined;
}

const SCALAR = /[^\s,\]}]+/y;

/** Undefined if the text ends first: a number may go on. */
function endOfScalar(text: string, start: number): number | undefined {
  if (text[start] === '"') return endOfString(text, start);
  SCALAR.lastIndex = start;
  const length = SCALAR.exec(text)?.[0].length ?? 0;
  return length === 0 || start + length === text.length ? undefined : start + length;
}

function endOfValue(text: string, start: number): number | undefined {
  if (text[start] !== '{' && text[start] !== '[') return endOfScalar(text, start);
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      const end = endOfString(text, at);
      if (end === undefined) return undefined;
      at = end - 1;
    } else if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') {
      depth -= 1;
      if (depth === 0) return at + 1;
    }
  }
  return undefined;
}
