/**
 * Reads an id from JSON at a pointer (RFC 6901), also where only the beginning of a document is at hand: each
 * value is passed over in one pass, and nothing behind the id is read. It reads bytes, as V8 reads the characters of
 * a string three times as slowly.
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
  return readJsonIds(text, [pointer])[0];
}

/** The ids at all of these pointers that are there. */
export function readJsonIds(
  text: string,
  pointers: readonly (readonly string[])[],
): readonly string[] {
  const mayHold = createNameCheck(text);
  return pointers.flatMap((pointer) => (mayHold(pointer) ? (readId(text, pointer) ?? []) : []));
}

/** A quick check: whether one of the documents in this text, the last of them cut off, may have an id there. */
export function mayHoldJsonId(text: string, pointer: readonly string[]): boolean {
  return createNameCheck(text)(pointer);
}

/**
 * Whether the text has the names of a pointer: a search is many times as fast as reading a long document to its end.
 * It begins behind the quote, as V8 looks for the first character, and JSON is full of quotes. Pointers share names.
 */
function createNameCheck(text: string): (pointer: readonly string[]) => boolean {
  const found = new Map<string, boolean>();
  let isEscaped: boolean | undefined;
  const isAbsent = (name: string): boolean => {
    const isHere = found.get(name) ?? text.includes(`${name}"`);
    found.set(name, isHere);
    return !isHere;
  };
  return (pointer) => {
    const missing = pointer.findLast((part) => PLAIN_NAME.test(part) && isAbsent(part));
    return missing === undefined || (isEscaped ??= text.includes(ESCAPE));
  };
}

function readId(text: string, pointer: readonly string[]): string | undefined {
  const bytes = Buffer.from(text, 'latin1');
  const at = findValue(bytes, skipBlanks(bytes, 0), pointer, 0);
  if (at === undefined) return undefined;
  const end = endOfScalar(bytes, at);
  if (end === undefined) return undefined;
  const value = valueOf(bytes, at, end);
  if (typeof value === 'string') return Buffer.from(value, 'utf8').toString('latin1');
  return typeof value === 'number' ? text.slice(at, end) : undefined;
}

/** A number may be an index. */
const PLAIN_NAME = /^[a-z_][a-z0-9_-]*$/i;
/** A name may be escaped too. */
const ESCAPE = '\\u';

/** Deeper documents hold no id: each level is a call. */
const MAX_DEPTH = 16;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const BRACKET_END = 0x5d;
const BRACE = 0x7b;
const BRACE_END = 0x7d;

/** Where the value of that pointer begins. */
function findValue(
  bytes: Buffer,
  at: number,
  pointer: readonly string[],
  depth: number,
): number | undefined {
  const part = pointer[depth];
  if (part === undefined) return at;
  if (depth === MAX_DEPTH) return undefined;
  const isObject = bytes[at] === BRACE;
  if (!isObject && bytes[at] !== BRACKET) return undefined;
  let index = 0;
  for (let next = skipBlanks(bytes, at + 1); ;) {
    let isHere = String(index) === part;
    let valueAt = next;
    if (isObject) {
      const keyEnd = bytes[next] === QUOTE ? endOfString(bytes, next) : undefined;
      if (keyEnd === undefined) return undefined;
      isHere = isName(bytes, next, keyEnd, part);
      const colon = skipBlanks(bytes, keyEnd);
      if (bytes[colon] !== COLON) return undefined;
      valueAt = skipBlanks(bytes, colon + 1);
    }
    if (isHere) return findValue(bytes, valueAt, pointer, depth + 1);
    const end = endOfValue(bytes, valueAt);
    const comma = end === undefined ? undefined : skipBlanks(bytes, end);
    if (comma === undefined || bytes[comma] !== COMMA) return undefined;
    next = skipBlanks(bytes, comma + 1);
    index += 1;
  }
}

/** The longest escape of a character has this many. */
const MAX_ESCAPE = 6;
const WELL_FORMED = /^(?:[^\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-f]{4}))*$/i;

/** A document may have thousands of names, and an exception for each that is malformed costs far too much. */
function isName(bytes: Buffer, start: number, end: number, part: string): boolean {
  const text = bytes.toString('utf8', start + 1, end - 1);
  if (!text.includes('\\')) return text === part;
  const mayBeIt = text.length <= part.length * MAX_ESCAPE && WELL_FORMED.test(text);
  return mayBeIt && valueOf(bytes, start, end) === part;
}

/** Escapes name characters, and all else is UTF-8. */
function valueOf(bytes: Buffer, start: number, end: number): unknown {
  return parseJson(bytes.toString('utf8', start, end));
}

function skipBlanks(bytes: Buffer, from: number): number {
  let at = from;
  while (isBlank(bytes[at])) at += 1;
  return at;
}

/** RFC 8259 §2. */
function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Just behind the closing quote. */
function endOfString(bytes: Buffer, start: number): number | undefined {
  for (let at = start + 1; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) return at + 1;
  }
  return undefined;
}

/** Undefined if the text ends first: a number may go on. */
function endOfScalar(bytes: Buffer, start: number): number | undefined {
  if (bytes[start] === QUOTE) return endOfString(bytes, start);
  for (let at = start; at < bytes.length; at += 1) {
    const byte = bytes[at];
    const isEnd = byte === COMMA || byte === BRACKET_END || byte === BRACE_END || isBlank(byte);
    if (isEnd) return at === start ? undefined : at;
  }
  return undefined;
}

function endOfValue(bytes: Buffer, start: number): number | undefined {
  if (bytes[start] !== BRACE && bytes[start] !== BRACKET) return endOfScalar(bytes, start);
  let depth = 0;
  for (let at = start; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      const end = endOfString(bytes, at);
      if (end === undefined) return undefined;
      at = end - 1;
    } else if (byte === BRACE || byte === BRACKET) depth += 1;
    else if (byte === BRACE_END || byte === BRACKET_END) {
      depth -= 1;
      if (depth === 0) return at + 1;
    }
  }
  return undefined;
}
