/** Finds the end of the object or array that a text begins with: lines of JSON go on behind it. */

const QUOTE = 0x22;
const BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const BRACKET_END = 0x5d;
const BRACE = 0x7b;
const BRACE_END = 0x7d;
const SPACE = 0x20;

export class JsonEndFinder {
  #depth = 0;
  #isInString = false;
  /** It begins with something else. */
  #isOther = false;
  /** The text goes on behind a backslash. */
  #isEscaped = false;

  /** Takes the next bytes, cut anywhere. Whether the value ends in them. */
  push(bytes: Uint8Array): boolean {
    if (this.#isOther) return false;
    // Fields of an object are many times as slow in this loop.
    let depth = this.#depth;
    let isInString = this.#isInString;
    let at = this.#isEscaped ? 1 : 0;
    for (; at < bytes.length; at += 1) {
      const byte = bytes[at] ?? 0;
      if (isInString) {
        if (byte === BACKSLASH) at += 1;
        else if (byte === QUOTE) isInString = false;
      } else if (byte === BRACE || byte === BRACKET) depth += 1;
      else if (depth === 0 && byte > SPACE) {
        this.#isOther = true;
        return false;
      } else if (byte === QUOTE) isInString = true;
      else if (byte === BRACE_END || byte === BRACKET_END) {
        depth -= 1;
        if (depth === 0) return true;
      }
    }
    this.#depth = depth;
    this.#isInString = isInString;
    this.#isEscaped = bytes.length > 0 ? at > bytes.length : this.#isEscaped;
    return false;
  }
}
