/** Sets and removes values in the text of a JSON file; all other characters stay. */
import { nested, type Change, type Value, type ValuePath } from '../doctor/change.ts';
import { endOfLine } from './marks.ts';

interface JsonNode {
  readonly start: number;
  readonly end: number;
  readonly kind: 'object' | 'array' | 'scalar';
  readonly members: readonly Member[];
}

interface Member {
  /** A list has indices. */
  readonly key: string | number;
  readonly start: number;
  readonly node: JsonNode;
}

export function setInJson(text: string, { path, value }: Change): string {
  let node = readNode(text, skipSpace(text, 0));
  for (const [depth, key] of path.entries()) {
    const member = node.members.find((each) => each.key === key);
    if (!member) return insert(text, node, key, nested(path.slice(depth + 1), value));
    node = member.node;
  }
  return text.slice(0, node.start) + JSON.stringify(value) + text.slice(node.end);
}

/** Removes the value, and what it leaves empty. */
export function removeFromJson(text: string, path: ValuePath): string {
  const trail: { readonly parent: JsonNode; readonly member: Member }[] = [];
  let node = readNode(text, skipSpace(text, 0));
  for (const key of path) {
    const member = node.members.find((each) => each.key === key);
    if (!member) return text;
    trail.push({ parent: node, member });
    node = member.node;
  }
  const found = trail.findLast(({ parent }) => parent.members.length > 1) ?? trail[0];
  return found ? cut(text, found.parent, found.member) : text;
}

function cut(text: string, { members }: JsonNode, member: Member): string {
  const index = members.indexOf(member);
  const before = members[index - 1];
  const after = members[index + 1];
  if (before) return text.slice(0, before.node.end) + text.slice(member.node.end);
  return text.slice(0, member.start) + text.slice(after?.start ?? member.node.end);
}

function insert(text: string, node: JsonNode, key: string | number, value: Value): string {
  const eol = endOfLine(text);
  const last = node.members.at(-1);
  const unit = /\n([ \t]+)"/.exec(text)?.[1] ?? '  ';
  const name = typeof key === 'number' ? '' : `${JSON.stringify(key)}: `;
  const isOnOneLine = last !== undefined && !text.slice(node.start, node.end).includes('\n');
  if (isOnOneLine) {
    return `${text.slice(0, last.node.end)}, ${name}${JSON.stringify(value)}${text.slice(last.node.end)}`;
  }
  const outer = indentOfLine(text, node.start);
  const indent = last ? indentOfLine(text, last.start) : outer + unit;
  const rendered = JSON.stringify(value, undefined, unit).replaceAll('\n', eol + indent);
  const line = `${eol}${indent}${name}${rendered}`;
  if (last) return `${text.slice(0, last.node.end)},${line}${text.slice(last.node.end)}`;
  return `${text.slice(0, node.start + 1)}${line}${eol}${outer}${text.slice(node.end - 1)}`;
}

function indentOfLine(text: string, at: number): string {
  const lineStart = text.lastIndexOf('\n', at - 1) + 1;
  return /^[ \t]*/.exec(text.slice(lineStart))?.[0] ?? '';
}

/* The text is valid: it has been parsed before. */

function skipSpace(text: string, at: number): number {
  while (/[\s,:\uFEFF]/.test(text[at] ?? '')) at += 1;
  return at;
}

function readNode(text: string, start: number): JsonNode {
  const open = text[start];
  if (open !== '{' && open !== '[') {
    return { start, end: endOfScalar(text, start), kind: 'scalar', members: [] };
  }
  const members: Member[] = [];
  let at = skipSpace(text, start + 1);
  while (text[at] !== '}' && text[at] !== ']') {
    const keyEnd = open === '{' ? endOfScalar(text, at) : at;
    const key = open === '{' ? (JSON.parse(text.slice(at, keyEnd)) as string) : members.length;
    const node = readNode(text, skipSpace(text, keyEnd));
    members.push({ key, start: at, node });
    at = skipSpace(text, node.end);
  }
  return { start, end: at + 1, kind: open === '{' ? 'object' : 'array', members };
}

const SCALAR = /"(?:[^"\\]|\\.)*"|[^\s,\]}]+/y;

function endOfScalar(text: string, at: number): number {
  SCALAR.lastIndex = at;
  SCALAR.test(text);
  return SCALAR.lastIndex;
}
