/** The first line of an answer (RFC 9112 §4). The reason phrase is checked and dropped. */
import { isFieldValue } from './characters.ts';
import { MalformedAnswer } from './malformed.ts';

export interface StatusLine {
  readonly minorVersion: 0 | 1;
  /** 100 to 999. */
  readonly statusCode: number;
}

const VERSION_PREFIX = 'HTTP/1.';
/** `HTTP/1.1 200`: where the parts stand. */
const MINOR_AT = 7;
const CODE_AT = 9;
const CODE_END = 12;
const SPACE = 0x20;
const ZERO = 0x30;
const ONE = 0x31;
const NINE = 0x39;

/** The line from `start` to `end`, which has no line end. */
export function parseStatusLine(text: string, start: number, end: number): StatusLine {
  const minor = text.charCodeAt(start + MINOR_AT);
  const isWhole =
    end - start >= CODE_END &&
    text.startsWith(VERSION_PREFIX, start) &&
    (minor === ZERO || minor === ONE) &&
    text.charCodeAt(start + CODE_AT - 1) === SPACE &&
    isReason(text, start + CODE_END, end);
  if (!isWhole) throw new MalformedAnswer('the status line is not one of HTTP/1.1 or HTTP/1.0');
  return { minorVersion: minor === ONE ? 1 : 0, statusCode: parseCode(text, start + CODE_AT) };
}

/** Nothing (many servers leave out the space too), or a space and any text. */
function isReason(text: string, start: number, end: number): boolean {
  if (start === end) return true;
  return text.charCodeAt(start) === SPACE && isFieldValue(text, start + 1, end);
}

function parseCode(text: string, start: number): number {
  let code = 0;
  for (let at = start; at < start + CODE_END - CODE_AT; at += 1) {
    const digit = text.charCodeAt(at);
    if (digit < ZERO || digit > NINE) throw new MalformedAnswer('the status code is not a number');
    code = code * 10 + digit - ZERO;
  }
  if (code < 100) throw new MalformedAnswer('the status code has less than three digits');
  return code;
}
