/**
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
export const COMMA = 0x2c;

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
