/** One header or trailer line, strictly (RFC 9112 §5): `name:value`, blanks round the value only. */
import { endOfToken, endOfValue, isBlank } from './characters.ts';
import { afterLineEnd, NOT_WHOLE } from './line-end.ts';
import { MalformedAnswer } from './malformed.ts';

const COLON = 0x3a;

/**
 * Appends the name and the value of the line that starts at `start` to `into`. Returns where the
 * next line starts, or NOT_WHOLE, and nothing is appended then.
 */
export function readFieldLine(text: string, start: number, into: string[]): number {
  const colon = endOfToken(text, start);
  if (colon === text.length) return NOT_WHOLE;
  // A folded line starts with a blank, and one before the colon hides the name from others (§5.1, §5.2).
  if (colon === start || text.charCodeAt(colon) !== COLON) {
    throw new MalformedAnswer('a field name is not a token followed by a colon');
  }
  let from = colon + 1;
  while (isBlank(text.charCodeAt(from))) from += 1;
  const end = endOfValue(text, from);
  const next = afterLineEnd(text, end);
  if (next === NOT_WHOLE) return NOT_WHOLE;
  let to = end;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to -= 1;
  into.push(text.slice(start, colon), text.slice(from, to));
  return next;
}
