/** Sets a value in the text of a YAML file; all other characters stay. */
import { isCollection, isPair, isScalar, isSeq, parseDocument, stringify } from 'yaml';
import type { Node, Pair, YAMLMap, YAMLSeq } from 'yaml';
import { isTable, nested, type Change, type Value, type ValuePath } from '../doctor/change.ts';
import { CannotEdit } from './cannot-edit.ts';
import { ADDED, endOfLine, withChangedValue } from './marks.ts';

export function setInYaml(text: string, change: Change): string {
  const { path, value } = change;
  const document = parseDocument(text);
  let node: unknown = document.contents;
  for (const [depth, key] of path.entries()) {
    const child = isCollection(node) ? node.get(key, true) : undefined;
    if (
      child === undefined ||
      (isScalar(child) && child.value === null && depth < path.length - 1)
    ) {
      return insert(text, node, path.slice(0, depth), nested(path.slice(depth), value));
    }
    node = child;
  }
  const [start, end] = rangeOf(node);
  const changed = withChangedValue(text, { start, end }, scalar(value));
  if (changed === undefined || !isScalar(node)) throw new CannotEdit(path, 'it is no plain value');
  return changed;
}

function insert(text: string, parent: unknown, path: ValuePath, value: Value): string {
  const eol = endOfLine(text);
  const isEmptyFile = path.length === 0 && (parent === null || !isCollection(parent));
  if (isEmptyFile) return text + lines(value, '').join(eol) + eol;
  if (!isCollection(parent) || parent.flow === true || parent.items.length === 0) {
    throw new CannotEdit(path, 'it is not written in lines of its own');
  }
  const indent = ' '.repeat(columnOf(text, firstOf(parent)));
  const at = endOfContent(text, parent);
  const added = lines(value, isSeq(parent) ? indent.slice(2) : indent);
  const separator = text[at - 1] === '\n' || at === 0 ? '' : eol;
  return text.slice(0, at) + separator + added.join(eol) + text.slice(at);
}

function firstOf({ items }: YAMLMap | YAMLSeq): number {
  const [first] = items;
  return isPair(first) ? rangeOf(first.key)[0] : rangeOf(first)[0];
}

function columnOf(text: string, at: number): number {
  return at - (text.lastIndexOf('\n', at - 1) + 1);
}

/** The end of the last line that belongs to the node, before its line break. */
function endOfContent(text: string, node: unknown): number {
  const last = deepestLast(node);
  const found = text.slice(last).search(/\r?\n/);
  return found < 0 ? text.length : last + found;
}

function deepestLast(node: unknown): number {
  if (!isCollection(node) || node.flow === true) return rangeOf(node)[1];
  const last = node.items.at(-1) as Node | Pair | undefined;
  if (!isPair(last)) return last ? deepestLast(last) : rangeOf(node)[1];
  return last.value === null ? rangeOf(last.key)[1] : deepestLast(last.value);
}

function rangeOf(node: unknown): readonly [number, number] {
  const range = typeof node === 'object' && node !== null ? (node as Node).range : undefined;
  return range ? [range[0], range[1]] : [0, 0];
}

/** Of a table or a list; each line has a mark. */
function lines(value: Value, indent: string): string[] {
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      const [first = '', ...rest] = lines(item as Value, `${indent}  `);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  if (!isTable(value)) return [`${indent}${scalar(value)}${ADDED}`];
  return Object.entries(value as Readonly<Record<string, Value>>).flatMap(([key, inner]) =>
    isTable(inner)
      ? [`${indent}${scalar(key)}:${ADDED}`, ...lines(inner, `${indent}  `)]
      : [`${indent}${scalar(key)}: ${scalar(inner)}${ADDED}`],
  );
}

/** On one line. */
function scalar(value: Value): string {
  const isList = Array.isArray(value);
  return stringify(value, { lineWidth: 0, collectionStyle: isList ? 'flow' : 'any' }).trimEnd();
}
