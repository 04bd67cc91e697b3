/** Sets a value in the text of a TOML file; all other characters stay. */
import { headerOf, tomlKey, tomlValue, valueAt, withChanges } from '../doctor/change.ts';
import type { Change, Value, ValuePath } from '../doctor/change.ts';
import { CannotEdit } from './cannot-edit.ts';
import {
  ADDED,
  BEGIN,
  END,
  endOfLine,
  endsWithBlock,
  isInBlock,
  withChangedValue,
} from './marks.ts';
import { scanToml, type TomlEntry, type TomlScan, type TomlTable } from './toml-scan.ts';

/** `values`: of the text. `change`: of a value that is no table. */
export function setInToml(text: string, values: unknown, change: Change): string {
  const scan = scanToml(text);
  const entry = scan.entries.find(({ path }) => isPrefix(path, change.path));
  if (entry) return changeEntry(text, values, entry, change);
  const parent = change.path.slice(0, -1);
  const table = scan.tables.findLast(({ path }) => isSame(path, parent));
  return table
    ? insertLine(text, scan, table, lineOf(change))
    : insertTable(text, scan, parent, lineOf(change));
}

function isPrefix(prefix: ValuePath, path: ValuePath): boolean {
  return prefix.every((key, index) => path[index] === key);
}

function isSame(left: ValuePath, right: ValuePath): boolean {
  return left.length === right.length && isPrefix(left, right);
}

function lineOf({ path, value }: Change): string {
  return `${tomlKey(String(path.at(-1)))} = ${tomlValue(value)}`;
}

/** The entry may hold a table or a list within its line: then all of that is written anew. */
function changeEntry(text: string, values: unknown, entry: TomlEntry, change: Change): string {
  const rest = change.path.slice(entry.path.length);
  const old = valueAt(values, entry.path);
  const value = withChanges(old, [{ path: rest, value: change.value }]) as Value;
  const changed = withChangedValue(text, entry, tomlValue(value));
  if (changed === undefined) throw new CannotEdit(change.path, 'its value spans several lines');
  return changed;
}

function insertLine(
  text: string,
  { entries, tables }: TomlScan,
  table: TomlTable,
  line: string,
): string {
  const last = entries.findLast((entry) => entry.table === table);
  const eol = endOfLine(text);
  const isRoot = table.path.length === 0;
  if (last === undefined && isRoot) {
    const at = tables[1]?.start ?? text.length;
    return `${text.slice(0, at)}${line}${ADDED}${eol}${text.slice(at)}`;
  }
  const at = last?.lineEnd ?? table.headerEnd;
  const indent = last
    ? indentAt(text, last.lineStart)
    : indentAt(text, table.start) + usualIndent(text, entries);
  const mark = isInBlock(text, at) ? '' : ADDED;
  return `${text.slice(0, at)}${eol}${indent}${line}${mark}${text.slice(at)}`;
}

function indentAt(text: string, lineStart: number): string {
  return /^[ \t]*/.exec(text.slice(lineStart))?.[0] ?? '';
}

/** By how much keys are indented below the header of their table. */
function usualIndent(text: string, entries: readonly TomlEntry[]): string {
  const inTable = entries.find(({ table }) => table.path.length > 0);
  if (!inTable) return '  ';
  const [header, own] = [inTable.table.start, inTable.lineStart].map((at) => indentAt(text, at));
  return (own ?? '').slice(header?.length ?? 0);
}

/** At the end of the file; a table within an element of a list, at the end of that element. */
function insertTable(text: string, scan: TomlScan, path: ValuePath, line: string): string {
  const eol = endOfLine(text);
  const lines = [...reasonFor(path), headerOf(path), usualIndent(text, scan.entries) + line];
  const element = elementAbove(path);
  if (element === undefined) return appendLines(text, lines, eol);
  const at = behindBlock(text, endOfElement(scan, element));
  const table = scan.tables.findLast((each) => isSame(each.path, element));
  const indent = table ? indentAt(text, table.start) : '';
  const block = [BEGIN, ...lines, END].map((each) => eol + indent + each).join('');
  return text.slice(0, at) + block + text.slice(at);
}

function elementAbove(path: ValuePath): ValuePath | undefined {
  const index = path.slice(0, -1).findLastIndex((key) => typeof key === 'number');
  return index < 0 ? undefined : path.slice(0, index + 1);
}

function endOfElement({ tables, entries }: TomlScan, element: ValuePath): number {
  const ends = [
    ...tables.filter(({ path }) => isPrefix(element, path)).map(({ headerEnd }) => headerEnd),
    ...entries.filter(({ path }) => isPrefix(element, path)).map(({ lineEnd }) => lineEnd),
  ];
  return Math.max(0, ...ends);
}

/** Blocks are never within each other. */
function behindBlock(text: string, at: number): number {
  return isInBlock(text, at) ? text.indexOf(END, at) + END.length : at;
}

function appendLines(text: string, lines: readonly string[], eol: string): string {
  if (endsWithBlock(text)) {
    const at = text.lastIndexOf(END);
    return `${text.slice(0, at)}${eol}${lines.join(eol)}${eol}${text.slice(at)}`;
  }
  const separator = text === '' || text.endsWith('\n') ? eol : eol + eol;
  return `${text}${separator}${[BEGIN, ...lines, END].join(eol)}${eol}`;
}

/** Comments above the tables that are added. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^env$/, '# The settings of the sidecar; the app keeps its own.'],
  [/^mounts$/, '# The session store survives restarts here. Each Machine has a volume of its own.'],
  [
    /^checks\./,
    '# Of the sidecar. Not of the service: requests of its sessions must reach a draining Machine.',
  ],
  [/http_options$/, '# In seconds. Fly Proxy cuts a stream that is silent for longer.'],
  [/concurrency$/, '# An open stream counts as a request as long as it lives.'],
  [/^deploy$/, '# One Machine after the other, each with its id and its volume.'],
];

/** One line, or none. */
function reasonFor(path: ValuePath): readonly string[] {
  const name = path.filter((key) => typeof key === 'string').join('.');
  const found = REASONS.find(([pattern]) => pattern.test(name));
  return found ? [found[1]] : [];
}
