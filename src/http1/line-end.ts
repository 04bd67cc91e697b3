/** The end of a line: CR LF and nothing else. */
import { MalformedAnswer } from './malformed.ts';

const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;

/** What the readers of lines return if the line is not all there. */
export const NOT_WHOLE = -1;

/**
 * Where the next line starts if this one's text ends at `end`; NOT_WHOLE if CR LF is not all there.
 * RFC 9112 §2.2 would let a recipient take a bare LF; two that differ in it can be set apart.
 */
export function afterLineEnd(text: string, end: number): number {
  const isWrong =
    (end < text.length && text.charCodeAt(end) !== CARRIAGE_RETURN) ||
    (end + 1 < text.length && text.charCodeAt(end + 1) !== LINE_FEED);
  if (isWrong) throw new MalformedAnswer('a line has a control character, or no CR LF at its end');
  return end + 2 <= text.length ? end + 2 : NOT_WHOLE;
}
