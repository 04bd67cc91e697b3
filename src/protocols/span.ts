/** A part of a text: from `start` to just before `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export function textAt(text: string, span: Span): string {
  return text.slice(span.start, span.end);
}

/** The text with that part replaced, byte for byte the same otherwise. */
export function replaceAt(text: string, span: Span, replacement: string): string {
  return text.slice(0, span.start) + replacement + text.slice(span.end);
}
