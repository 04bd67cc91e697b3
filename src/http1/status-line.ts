/** The first line of an answer (RFC 9112 §4). The reason phrase is checked and dropped. */
import { endOfValue } from './characters.ts';
import { afterLineEnd } from './line-end.ts';
import { MalformedAnswer } from './malformed.ts';

export interface StatusLine {
  readonly minorVersion: 0 | 1;
  /** 100 to 999. */
  readonly statusCode: number;
}

const VERSION_PREFIX = 'HTTP/1.';
/** `HTTP/1.1 200 OK`: where the parts stand. */
const MINOR_AT = 7;
const CODE_AT = 9;
const CODE_END = 12;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const ZERO = 0x30;
const ONE = 0x31;

/** Where the line after the one at the start of `text` begins, or NOT_WHOLE. */
export function endOfStatusLine(text: string): number {
  return afterLineEnd(text, endOfValue(text, 0));
}

/** `text` begins with a whole line. */
export function parseStatusLine(text: string): StatusLine {
  const minor = text.charCodeAt(MINOR_AT);
  const isRight =
    text.startsWith(VERSION_PREFIX) &&
    (minor === ZERO || minor === ONE) &&
    text.charCodeAt(CODE_AT - 1) === SPACE;
  const statusCode = digitAt(text, 0) * 100 + digitAt(text, 1) * 10 + digitAt(text, 2);
  // The space before the reason is left out by many servers where there is no reason.
  const after = text.charCodeAt(CODE_END);
  if (!isRight || !(statusCode >= 100) || (after !== SPACE && after !== CARRIAGE_RETURN)) {
    throw new MalformedAnswer('the status line is not one of HTTP/1.1 or HTTP/1.0');
  }
  return { minorVersion: minor === ONE ? 1 : 0, statusCode };
}

/** The digit of the status code at this place; NaN if it is none. */
function digitAt(text: string, place: number): number {
  const digit = text.charCodeAt(CODE_AT + place) - ZERO;
  return digit >= 0 && digit <= 9 ? digit : NaN;
}
