/**
 * The lines of an event stream (HTML standard, "Parsing an event stream"): LF, CR and CRLF end a line, and a
 * byte order mark may come first.
 */

const LF = 0x0a;
const CR = 0x0d;
const BYTE_ORDER_MARK = '\xef\xbb\xbf';
const COMMENT = ':';

export class SseLineReader {
  /** The line so far, one character a byte. Of a comment only its colon: proxies pad streams with them. */
  line = '';
  #isAfterCr = false;
  #mayBeginWithMark = true;

  /** The line that this byte ends, or undefined. */
  read(byte: number): string | undefined {
    const isSecondHalfOfCrlf = this.#isAfterCr && byte === LF;
    this.#isAfterCr = byte === CR;
    if (isSecondHalfOfCrlf) return undefined;
    if (byte === LF || byte === CR) return this.end();
    if (this.line !== COMMENT) this.line += String.fromCharCode(byte);
    if (this.#mayBeginWithMark && this.line === BYTE_ORDER_MARK) {
      this.line = '';
      this.#mayBeginWithMark = false;
    }
    return undefined;
  }

  /** Ends the line, as the end of the stream does. */
  end(): string {
    const { line } = this;
    this.line = '';
    this.#mayBeginWithMark = false;
    return line;
  }
}

/** The name and the value of a line. One space after the colon is not part of the value. */
export function parseSseField(line: string): { readonly field: string; readonly value: string } {
  const colon = line.indexOf(':');
  if (colon === -1) return { field: line, value: '' };
  const valueStart = line[colon + 1] === ' ' ? colon + 2 : colon + 1;
  return { field: line.slice(0, colon), value: line.slice(valueStart) };
}
