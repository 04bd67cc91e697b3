/** Puts the text of heads together that go out: as they came less what was cut, or from pairs. */
import { SPACE, TAB } from './characters.ts';

/** The text of a head, and what of it is not passed on. */
export interface CutText {
  readonly text: string;
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  readonly cuts: readonly number[];
}

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

/** A head whose list of fields is built from its text, at the first access. */
export abstract class HeadText implements CutText {
  readonly text: string;
  fieldsStart = 0;
  fieldsEnd = 0;
  cuts: readonly number[] = [];
  #rawHeaders: readonly string[] | undefined;

  constructor(text: string) {
    this.text = text;
  }

  get rawHeaders(): readonly string[] {
    return (this.#rawHeaders ??= readFields(passedFields(this)));
  }
}

/** Cuts, in order, and one more that overlaps none of them. */
export function withCut(cuts: readonly number[], from: number, to: number): number[] {
  let place = 0;
  while (place < cuts.length && (cuts[place] ?? 0) < from) place += 2;
  return [...cuts.slice(0, place), from, to, ...cuts.slice(place)];
}

/** Name, value, name, value of field lines, which are well-formed; the values without blanks around them. */
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

/** The lines of other fields than the head's own; undefined if it is those that are passed on. */
export function changedFields(
  head: { readonly rawHeaders: readonly string[] },
  rawHeaders: readonly string[] | undefined,
): string | undefined {
  if (rawHeaders === undefined || rawHeaders === head.rawHeaders) return undefined;
  return formatFields(rawHeaders);
}

/** A request's head as it came, as far as its text is put together anew. */
export interface RequestText extends CutText {
  readonly method: string;
  readonly rawHeaders: readonly string[];
  readonly isChunked: boolean;
  readonly upgrade: string | undefined;
}

/** What may be changed of a request on its way. */
export interface RequestChanges {
  readonly target: string;
  /** The fields that go out; undefined, or the head's very array, if its own are passed on as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** In place of the head's own `cuts`. */
  readonly cuts?: readonly number[] | undefined;
  /** More field lines, each with its line end. */
  readonly added: string;
  /** Whether the upstream is asked for the protocol that the client asks for. */
  readonly asksForUpgrade: boolean;
}

/** The head for an upstream, which is always one of HTTP/1.1. */
export function formatRequest(head: RequestText, changes: RequestChanges): string {
  const { target, rawHeaders, cuts, added, asksForUpgrade } = changes;
  const fields = changedFields(head, rawHeaders) ?? passedFields(head, cuts);
  let framing = head.isChunked ? 'Transfer-Encoding: chunked\r\n' : '';
  if (asksForUpgrade && head.upgrade !== undefined) {
    framing += `Connection: Upgrade\r\nUpgrade: ${head.upgrade}\r\n`;
  }
  return `${head.method} ${target} HTTP/1.1\r\n${fields}${added}${framing}\r\n`;
}
