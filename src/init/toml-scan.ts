/** Where the tables and the values of a TOML text are. The text is valid: it has been parsed before. */
import type { ValuePath } from '../doctor/change.ts';

export interface TomlTable {
  readonly path: ValuePath;
  /** Where the line of its header begins, and where it ends; both 0 for the root. */
  readonly start: number;
  readonly headerEnd: number;
}

export interface TomlEntry {
  readonly path: ValuePath;
  readonly table: TomlTable;
  /** Where its line begins, where its value is, and where the last line of that ends. */
  readonly lineStart: number;
  readonly start: number;
  readonly end: number;
  readonly lineEnd: number;
}

export interface TomlScan {
  readonly tables: readonly TomlTable[];
  readonly entries: readonly TomlEntry[];
}

export function scanToml(text: string): TomlScan {
  const tables: TomlTable[] = [{ path: [], start: 0, headerEnd: 0 }];
  const entries: TomlEntry[] = [];
  const lengths = new Map<string, number>();
  let at = 0;
  while (at < text.length) {
    const lineStart = at;
    at = skipBlanks(text, at);
    const table = tables.at(-1);
    if (table === undefined || at >= text.length) break;
    if (text[at] === '[') {
      const header = readHeader(text, at, lengths);
      tables.push({
        path: header.path,
        start: lineStart,
        headerEnd: endOfLineAt(text, header.end),
      });
      at = nextLine(text, header.end);
    } else if (text[at] === '#' || text[at] === '\n' || text[at] === '\r') at = nextLine(text, at);
    else {
      const { keys, end: keyEnd } = readKeys(text, at, '=');
      const start = skipBlanks(text, keyEnd + 1);
      const end = skipValue(text, start, false);
      const path = [...table.path, ...keys];
      entries.push({ path, table, lineStart, start, end, lineEnd: endOfLineAt(text, end) });
      at = nextLine(text, end);
    }
  }
  return { tables, entries };
}

function skipBlanks(text: string, at: number): number {
  while (text[at] === ' ' || text[at] === '\t') at += 1;
  return at;
}

/** Before its line break. */
function endOfLineAt(text: string, at: number): number {
  const found = text.slice(at).search(/\r?\n/);
  return found < 0 ? text.length : at + found;
}

function nextLine(text: string, at: number): number {
  const found = text.indexOf('\n', at);
  return found < 0 ? text.length : found + 1;
}

interface Keys {
  readonly keys: readonly string[];
  readonly end: number;
}

/** A dotted key, up to `stop`. */
function readKeys(text: string, start: number, stop: string): Keys {
  const keys: string[] = [];
  let at = start;
  while (at < text.length && text[at] !== stop) {
    const from = skipBlanks(text, at);
    at = text[from] === '"' || text[from] === "'" ? skipString(text, from) : bareEnd(text, from);
    keys.push(keyOf(text.slice(from, at)));
    at = skipBlanks(text, at);
    if (text[at] === '.') at += 1;
    else break;
  }
  return { keys, end: at };
}

function bareEnd(text: string, at: number): number {
  while (/[\w-]/.test(text[at] ?? '')) at += 1;
  return at;
}

function keyOf(text: string): string {
  if (text.startsWith("'")) return text.slice(1, -1);
  return text.startsWith('"') ? (JSON.parse(text) as string) : text;
}

function readHeader(
  text: string,
  start: number,
  lengths: Map<string, number>,
): { readonly path: ValuePath; readonly end: number } {
  const isElement = text.startsWith('[[', start);
  const { keys, end } = readKeys(text, start + (isElement ? 2 : 1), ']');
  const path: (string | number)[] = [];
  keys.forEach((key, index) => {
    path.push(key);
    const name = JSON.stringify(path);
    const length = lengths.get(name) ?? 0;
    if (isElement && index === keys.length - 1) {
      lengths.set(name, length + 1);
      path.push(length);
    } else if (length > 0) path.push(length - 1);
  });
  return { path, end: end + (isElement ? 2 : 1) };
}

/** `isInside`: of an array or an inline table, where it may also end at a comma or a bracket. */
function skipValue(text: string, at: number, isInside: boolean): number {
  const first = text[at];
  if (first === '"' || first === "'") return skipString(text, at);
  if (first === '[' || first === '{') return skipBrackets(text, at);
  const end = text.slice(at).search(isInside ? /[,\]}#\r\n]/ : /[#\r\n]/);
  const raw = text.slice(at, end < 0 ? undefined : at + end);
  return at + raw.trimEnd().length;
}

function skipBrackets(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length) {
    const character = text[at] ?? '';
    if (character === ']' || character === '}') return at + 1;
    if (character === '#') at = nextLine(text, at);
    else if (/[\s,=]/.test(character)) at += 1;
    else if (/[\w.+-]/.test(character)) at += /^[\w.+-]+/.exec(text.slice(at))?.[0].length ?? 1;
    else at = skipValue(text, at, true);
  }
  return at;
}

function skipString(text: string, start: number): number {
  const quote = text[start] ?? '';
  const isLong = text.startsWith(quote.repeat(3), start);
  const close = isLong ? quote.repeat(3) : quote;
  let at = start + close.length;
  while (at < text.length && !text.startsWith(close, at)) {
    at += quote === '"' && text[at] === '\\' ? 2 : 1;
  }
  at += close.length;
  // A long string may end with up to two quotes of its own.
  while (isLong && text[at] === quote) at += 1;
  return at;
}
