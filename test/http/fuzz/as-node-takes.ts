/**
 * Three differences between the engine and llhttp: the engine accepts unknown methods and bytes above
 * 0x7f in a target, and drops trailers that frame or route, where llhttp acts on them. They are replaced
 * before messages are compared.
 */
import { METHODS } from 'node:http';

const KNOWN: ReadonlySet<string> = new Set(METHODS);
const STAND_IN = 'GET';
// CONNECT would be a tunnel, and the others belong to other protocols.
const OTHER: ReadonlySet<string> = new Set(['CONNECT', 'PRI', 'SOURCE']);

export function methodForNode(method: string): string {
  return KNOWN.has(method) && !OTHER.has(method) ? method : STAND_IN;
}

export function targetForNode(target: string): string {
  return target.replaceAll(/[\x80-\xff]/g, 'x');
}

/** `request` starts with its request line, or with empty lines before it. */
export function requestForNode(request: string): string {
  return request.replace(
    /^((?:\r\n)*)([^ ]+) ([^ ]+)/,
    (_all, empty: string, method: string, target: string) =>
      `${empty}${methodForNode(method)} ${targetForNode(target)}`,
  );
}

/** `passed`: the body as it is passed on, which differs only by those trailers. */
export function bodyForNode(body: string, passed: string): string {
  if (body === passed) return body;
  let at = 0;
  while (body[at] === passed[at]) at += 1;
  const line = body.lastIndexOf('\n', at - 1) + 1;
  return body.slice(0, line) + body.slice(line).replaceAll(FRAMING_TRAILER, 'X$1');
}

const FRAMING_TRAILER = /^.(ontent-length|ransfer-encoding|onnection|pgrade)(?=[ \t]*:)/gim;

/** The field lines of a head, in a simple parser: name, value, name, value. */
export function fieldsOf(head: string): string[] {
  const lines = head.split('\r\n').slice(1, -2);
  return lines.flatMap((line) => {
    const colon = line.indexOf(':');
    return [
      line.slice(0, colon).trimEnd(),
      line.slice(colon + 1).replaceAll(/^[ \t]+|[ \t]+$/g, ''),
    ];
  });
}
