/** One header or trailer line, strictly (RFC 9112 §5): `name:value`, blanks round the value only. */
import { endOfToken, isBlank, isFieldValue } from './characters.ts';
import { MalformedAnswer } from './malformed.ts';

const COLON = 0x3a;

/** Appends the name and the value of the line from `start` to `end`, which has no line end, to `into`. */
export function readFieldLine(text: string, start: number, end: number, into: string[]): void {
  const colon = endOfToken(text, start, end);
  // A folded line starts with a blank, and one before the colon hides the name from others (§5.1, §5.2).
  if (colon === start || colon === end || text.charCodeAt(colon) !== COLON) {
    throw new MalformedAnswer('a field name is not a token followed by a colon');
  }
  let from = colon + 1;
  while (from < end && isBlank(text.charCodeAt(from))) from += 1;
  let to = end;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to -= 1;
  if (!isFieldValue(text, from, to)) {
    throw new MalformedAnswer('a field value has a control character in it');
  }
  into.push(text.slice(start, colon), text.slice(from, to));
}
