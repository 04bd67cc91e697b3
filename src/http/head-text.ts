/** Puts the text of heads together that go out: as they came less what was cut, or from pairs. */
import type { RequestHead } from './request-head.ts';

interface CutText {
  readonly text: string;
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  readonly cuts: readonly number[];
}

/** The field lines that are passed on, as they came. */
export function passedFields({ text, fieldsStart, fieldsEnd, cuts }: CutText): string {
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

/** Field lines of name, value, name, value. */
export function formatFields(rawHeaders: readonly string[]): string {
  let text = '';
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    text += `${rawHeaders[i] ?? ''}: ${rawHeaders[i + 1] ?? ''}\r\n`;
  }
  return text;
}

/** What may be changed of a request on its way. */
export interface RequestChanges {
  readonly target: string;
  /** The very array of the head if the fields are passed on as they came. */
  readonly rawHeaders: readonly string[];
  /** More field lines, each with its line end. */
  readonly added: string;
  /** Whether the upstream is asked for the protocol that the client asks for. */
  readonly asksForUpgrade: boolean;
}

/** The head for an upstream, which is always one of HTTP/1.1. */
export function formatRequest(head: RequestHead, changes: RequestChanges): string {
  const { target, rawHeaders, added, asksForUpgrade } = changes;
  const fields = rawHeaders === head.rawHeaders ? passedFields(head) : formatFields(rawHeaders);
  let framing = head.isChunked ? 'Transfer-Encoding: chunked\r\n' : '';
  if (asksForUpgrade && head.upgrade !== undefined) {
    framing += `Connection: Upgrade\r\nUpgrade: ${head.upgrade}\r\n`;
  }
  return `${head.method} ${target} HTTP/1.1\r\n${fields}${added}${framing}\r\n`;
}
