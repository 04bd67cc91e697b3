/**
 * Reads the lines of a head, or of trailers, up to the empty one, wherever the bytes are cut.
 *
 *   begin --line--> (head only) status line --line--> field --line--> field ... --empty line--> whole
 */
import { readFieldLine } from './field-line.ts';
import { MalformedAnswer } from './malformed.ts';
import { parseStatusLine, type StatusLine } from './status-line.ts';

/** Bytes turned into text at a time: more than nearly every head, less than what comes with one. */
const SLICE_BYTES = 4096;
const CARRIAGE_RETURN = 0x0d;
/** Stands in between a head and the next; never written to. */
const NO_FIELDS: string[] = [];

export class FieldReader {
  readonly #maxBytes: number;
  #rawFields: string[] = [];
  statusLine: StatusLine | undefined;
  #awaitsStatusLine = false;
  /** The beginning of a line whose end has not come yet. */
  #held = '';
  #byteCount = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  beginHead(): void {
    this.beginTrailers();
    this.#awaitsStatusLine = true;
  }

  beginTrailers(): void {
    this.#rawFields = [];
    this.statusLine = undefined;
    this.#awaitsStatusLine = false;
    this.#held = '';
    this.#byteCount = 0;
  }

  /** The name-value pairs; the reader forgets them. */
  takeFields(): string[] {
    const taken = this.#rawFields;
    this.#rawFields = NO_FIELDS;
    return taken;
  }

  /** Returns where the bytes after the empty line start, or -1 if it has not come: all was taken. */
  read(bytes: Buffer, start: number, end: number): number {
    for (let at = start; at < end; at += SLICE_BYTES) {
      const text = bytes.toString('latin1', at, Math.min(at + SLICE_BYTES, end));
      const taken = this.#readLines(text);
      if (taken !== -1) return at + taken;
    }
    return -1;
  }

  #readLines(text: string): number {
    let at = 0;
    for (;;) {
      const lineFeed = text.indexOf('\n', at);
      if (lineFeed === -1) {
        this.#hold(text.slice(at));
        return -1;
      }
      this.#count(lineFeed + 1 - at);
      const isLast =
        this.#held === '' ? this.#readLine(text, at, lineFeed) : this.#readHeld(text, lineFeed);
      at = lineFeed + 1;
      if (isLast) return at;
    }
  }

  #hold(text: string): void {
    this.#count(text.length);
    this.#held += text;
  }

  #count(byteCount: number): void {
    this.#byteCount += byteCount;
    if (this.#byteCount > this.#maxBytes) {
      throw new MalformedAnswer(`a head or its trailers are longer than ${this.#maxBytes} bytes`);
    }
  }

  #readHeld(text: string, lineFeed: number): boolean {
    const line = this.#held + text.slice(0, lineFeed);
    this.#held = '';
    return this.#readLine(line, 0, line.length);
  }

  /** Returns whether it was the empty one. */
  #readLine(text: string, start: number, lineFeed: number): boolean {
    const end = lineFeed - 1;
    // RFC 9112 §2.2 would let a recipient take a bare line feed; two that differ there can be set apart.
    if (end < start || text.charCodeAt(end) !== CARRIAGE_RETURN) {
      throw new MalformedAnswer('a line of the head does not end with CR LF');
    }
    if (this.#awaitsStatusLine) {
      this.#awaitsStatusLine = false;
      this.statusLine = parseStatusLine(text, start, end);
      return false;
    }
    if (start === end) return true;
    readFieldLine(text, start, end, this.#rawFields);
    return false;
  }
}
