/** Which characters may stand where in an HTTP/1.1 head (RFC 9110 §5.5, §5.6.2). Text is latin-1. */

const TAB = 0x09;
const SPACE = 0x20;
const DELETE = 0x7f;
const UPPER_A = 0x41;
const UPPER_Z = 0x5a;
/** From an upper case letter to its lower case one. */
const TO_LOWER = 0x20;

const TOKEN_CHARACTERS =
  "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/**
 * 1 for what may be in a token, in a value (no control characters but tabs), in a target (what may
 * be in a value, but no blanks). Nothing beyond latin-1 may be in any, as the low byte of U+010A,
 * written as latin-1, is a line feed.
 */
const IS_IN_TOKEN = new Uint8Array(256);
const IS_IN_VALUE = new Uint8Array(256);
const IS_IN_TARGET = new Uint8Array(256);
for (const character of TOKEN_CHARACTERS) IS_IN_TOKEN[character.charCodeAt(0)] = 1;
IS_IN_VALUE.fill(1, SPACE)[DELETE] = 0;
IS_IN_VALUE[TAB] = 1;
IS_IN_TARGET.fill(1, SPACE + 1)[DELETE] = 0;

/** Where the token that starts at `start` ends; `start` itself if there is none. */
export function endOfToken(text: string, start: number): number {
  let at = start;
  while (at < text.length && IS_IN_TOKEN[text.charCodeAt(at)] === 1) at += 1;
  return at;
}

/** The first character from `start` on that may not be in a field value or a reason phrase. */
export function endOfValue(text: string, start: number): number {
  let at = start;
  while (at < text.length && IS_IN_VALUE[text.charCodeAt(at)] === 1) at += 1;
  return at;
}

export function isToken(text: string): boolean {
  return text.length > 0 && endOfToken(text, 0) === text.length;
}

export function isFieldValue(text: string): boolean {
  return endOfValue(text, 0) === text.length;
}

/** Whether this may be a request target. */
export function isTarget(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    if (IS_IN_TARGET[text.charCodeAt(at)] !== 1) return false;
  }
  return text.length > 0;
}

/** A space or a tab: what may stand around a value. */
export function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

/** Whether `name` is `lowerCase` but for the case of its letters. Copies nothing. */
export function isNamed(name: string, lowerCase: string): boolean {
  if (name.length !== lowerCase.length) return false;
  for (let at = 0; at < name.length; at += 1) {
    const code = name.charCodeAt(at);
    const isUpper = code >= UPPER_A && code <= UPPER_Z;
    if ((isUpper ? code + TO_LOWER : code) !== lowerCase.charCodeAt(at)) return false;
  }
  return true;
}
