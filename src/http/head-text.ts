/** The text of heads: as it came less what was cut, or as pairs of names and values. */

/** The text of a head, and what of it is not passed on. */
export interface CutText {
  /** As it came, one character a byte, from the first line to the empty line. */
  readonly text: string;
  /** Where the field lines begin, and where the empty line is. */
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  /** Pairs of positions in `text`, in order and without overlaps: what is not passed on. */
  readonly cuts: readonly number[];
}

/** A head that its parser is still filling in. */
export type Unfinished<Head> = {
  -readonly [Name in keyof Head]: Head[Name] extends readonly (infer Item)[] ? Item[] : Head[Name];
};

/** The field lines that are passed on, as they came. */
export function passedFields(
  { text, fieldsStart, fieldsEnd, cuts: ownCuts }: CutText,
  cuts = ownCuts,
): string {
  if (cuts.length === 0) return text.slice(fieldsStart, fieldsEnd);
  let passed = '';
  let from = fieldsStart;
  for (let i = 0; i < cuts.length; i += 2) {
    const cutStart = cuts[i] ?? from;
    if (cutStart > from) passed += text.slice(from, cutStart);
    from = cuts[i + 1] ?? fieldsEnd;
  }
  return from < fieldsEnd ? passed + text.slice(from, fieldsEnd) : passed;
}

/** Cuts the text behind the last cut, or from its end on. */
export function addCut(cuts: number[], from: number, to: number): void {
  if (from === to) return;
  if (cuts.at(-1) === from) cuts[cuts.length - 1] = to;
  else cuts.push(from, to);
}

/** The cuts and one more, which overlaps none of them. */
export function withCut(cuts: readonly number[], from: number, to: number): number[] {
  let index = 0;
  while (index < cuts.length && (cuts[index] ?? 0) < from) index += 2;
  return [...cuts.slice(0, index), from, to, ...cuts.slice(index)];
}

/** The cuts and the lines of these names, which are in lower case. */
export function withoutNamedLines(head: CutText, names: ReadonlySet<string>): number[] {
  const { text, fieldsStart, fieldsEnd } = head;
  const pairs: [from: number, to: number][] = [];
  for (let i = 0; i < head.cuts.length; i += 2) {
    pairs.push([head.cuts[i] ?? 0, head.cuts[i + 1] ?? 0]);
  }
  for (let at = fieldsStart; at < fieldsEnd;) {
    const next = text.indexOf('\n', at) + 1;
    const name = /^[^:\s]*/.exec(text.slice(at, next))?.[0].toLowerCase() ?? '';
    if (names.has(name)) pairs.push([at, next]);
    at = next;
  }
  return merged(pairs.sort(([one], [other]) => one - other));
}

function merged(pairs: readonly (readonly [from: number, to: number])[]): number[] {
  const cuts: number[] = [];
  for (const [from, to] of pairs) {
    const lastEnd = cuts.at(-1) ?? -1;
    if (from <= lastEnd) cuts[cuts.length - 1] = Math.max(lastEnd, to);
    else cuts.push(from, to);
  }
  return cuts;
}

/** Name, value, name, value of well-formed field lines; the values without blanks around them. */
export function readFields(lines: string): string[] {
  const rawHeaders: string[] = [];
  for (let at = 0; at < lines.length;) {
    const colon = lines.indexOf(':', at);
    const lineEnd = lines.indexOf('\r', colon);
    let valueStart = colon + 1;
    let valueEnd = lineEnd;
    while (valueStart < valueEnd && isBlank(lines.charCodeAt(valueStart))) valueStart += 1;
    while (valueEnd > valueStart && isBlank(lines.charCodeAt(valueEnd - 1))) valueEnd -= 1;
    rawHeaders.push(lines.slice(at, colon), lines.slice(valueStart, valueEnd));
    at = lineEnd + 2;
  }
  return rawHeaders;
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

/** Field lines of name, value, name, value. */
export function formatFields(rawHeaders: readonly string[]): string {
  let text = '';
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    text += `${rawHeaders[i] ?? ''}: ${rawHeaders[i + 1] ?? ''}\r\n`;
  }
  return text;
}

/**
 * The field lines of a head that goes out: those of `rawHeaders`, or the head's own as they came if that is
 * undefined or the head's very array.
 */
export function outgoingFields(
  head: CutText & { readonly rawHeaders: readonly string[] },
  rawHeaders: readonly string[] | undefined,
  cuts?: readonly number[],
): string {
  if (rawHeaders === undefined || rawHeaders === head.rawHeaders) return passedFields(head, cuts);
  return formatFields(rawHeaders);
}

/*
 * Which bytes are allowed where in a head: one table look-up per byte (RFC 9110 §5.6.2, RFC 9112 §2.2, §3).
 */

const TABLE_SIZE = 256;

function tableOf(isMember: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: TABLE_SIZE }, (_, code) => (isMember(code) ? 1 : 0));
}

function isOneOf(characters: string): (code: number) => boolean {
  const codes = new Set(Array.from(characters, (character) => character.charCodeAt(0)));
  return (code) => codes.has(code);
}

const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

export const TAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SPACE = 0x20;
export const COLON = 0x3a;

/** `tchar` (RFC 9110 §5.6.2): names of fields, methods, chunk extensions. */
export const TOKEN = tableOf(isOneOf(`!#$%&'*+-.^_\`|~${ALPHANUMERIC}`));

/** What a field value may hold: HTAB, SP, VCHAR, obs-text (RFC 9110 §5.5). */
export const VALUE = tableOf((code) => code === TAB || (code >= SPACE && code !== 0x7f));

/** What a request-target may hold: no blank, no control character, no fragment (RFC 9112 §3.2). */
export const TARGET = tableOf((code) => code > SPACE && code !== 0x7f && code !== 0x23);

/** The value of a hexadecimal digit, or -1. */
export const HEX = Int8Array.from({ length: TABLE_SIZE }, (_, code) => {
  const digit = '0123456789abcdef'.indexOf(String.fromCharCode(code).toLowerCase());
  return digit;
});

/** Lower case of ASCII letters; every other byte stands for itself. */
export const LOWER = Uint8Array.from({ length: TABLE_SIZE }, (_, code) =>
  code >= 0x41 && code <= 0x5a ? code + 0x20 : code,
);

/** Whether the bytes from `at` on are this text, which is given in lower case. The bytes must be there. */
export function isText(bytes: Uint8Array, at: number, lowerText: Uint8Array): boolean {
  for (let i = 0; i < lowerText.length; i += 1) {
    if (LOWER[bytes[at + i] ?? 0] !== lowerText[i]) return false;
  }
  return true;
}
