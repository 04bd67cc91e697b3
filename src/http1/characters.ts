/** Which characters may stand where in an HTTP/1.1 head (RFC 9110 §5.5, §5.6.2). Text is latin-1. */

const TAB = 0x09;
const SPACE = 0x20;
const DELETE = 0x7f;
const LAST_LATIN1 = 0xff;

const TOKEN_CHARACTERS =
  "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** 1 for each byte that may be in a token. */
const IS_TOKEN = new Uint8Array(256);
for (const character of TOKEN_CHARACTERS) IS_TOKEN[character.charCodeAt(0)] = 1;

/** Where the token that starts at `start` ends; `start` itself if there is none. */
export function endOfToken(text: string, start: number, end: number): number {
  let at = start;
  while (at < end && IS_TOKEN[text.charCodeAt(at)] === 1) at += 1;
  return at;
}

export function isToken(text: string): boolean {
  return text.length > 0 && endOfToken(text, 0, text.length) === text.length;
}

/**
 * Whether this may be a field value or a reason phrase: no control characters but tabs, and nothing
 * beyond latin-1, as the low byte of U+010A, written as latin-1, is a line feed.
 */
export function isFieldValue(text: string, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) {
    const code = text.charCodeAt(at);
    if (code < SPACE ? code !== TAB : code === DELETE || code > LAST_LATIN1) return false;
  }
  return true;
}

/** Whether this may be a request target: what a value may be, but without spaces and tabs. */
export function isVisible(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code <= SPACE || code === DELETE || code > LAST_LATIN1) return false;
  }
  return text.length > 0;
}

/** A space or a tab: what may stand around a value. */
export function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}
