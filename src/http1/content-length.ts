/** The value of `Content-Length`: digits only (RFC 9112 §6.3), or undefined. */

/** Below 2^53: every length up to here is a number of its own. */
const MAX_DIGITS = 15;
const ZERO = 0x30;
const NINE = 0x39;

export function parseContentLength(text: string): number | undefined {
  if (text.length === 0 || text.length > MAX_DIGITS) return undefined;
  let length = 0;
  for (let at = 0; at < text.length; at += 1) {
    const digit = text.charCodeAt(at);
    if (digit < ZERO || digit > NINE) return undefined;
    length = length * 10 + digit - ZERO;
  }
  return length;
}
