/**
 * Reads the lines of a head, or of trailers, up to the empty one, wherever the bytes are cut.
 *
 *   begin --line--> (head only) status line --line--> field --line--> field ... --empty line--> whole
 */
import { readFieldLine } from './field-line.ts';
import { afterLineEnd, NOT_WHOLE } from './line-end.ts';
import { MalformedAnswer } from './malformed.ts';
import { endOfStatusLine, parseStatusLine, type StatusLine } from './status-line.ts';

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
  #isWhole = false;
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
    this.#isWhole = false;
    this.#held = '';
    this.#byteCount = 0;
  }

  /** The name-value pairs; the reader forgets them. */
  takeFields(): string[] {
    const taken = this.#rawFields;
    this.#rawFields = NO_FIELDS;
    return taken;
  }

  /** Returns where the bytes after the empty line start, or NOT_WHOLE if it has not come: all was taken. */
  read(bytes: Buffer, start: number, end: number): number {
    for (let at = start; at < end; at += SLICE_BYTES) {
      const text = bytes.toString('latin1', at, Math.min(at + SLICE_BYTES, end));
      const taken = this.#read(text);
      if (taken !== NOT_WHOLE) return at + taken;
    }
    return NOT_WHOLE;
  }

  #read(text: string): number {
    const held = this.#held;
    if (held === '') return this.#readLines(text);
    // Without a line end there is nothing new to find out, and joining it costs nothing yet.
    if (!text.includes('\n')) return this.#hold(text);
    this.#held = '';
    this.#byteCount -= held.length;
    const taken = this.#readLines(held + text);
    return taken === NOT_WHOLE ? NOT_WHOLE : taken - held.length;
  }

  #readLines(text: string): number {
    for (let at = 0; at < text.length;) {
      const next = this.#readLine(text, at);
      if (next === NOT_WHOLE) return this.#hold(text.slice(at));
      this.#count(next - at);
      if (this.#isWhole) return next;
      at = next;
    }
    return NOT_WHOLE;
  }

  /** Returns where the next line starts, or NOT_WHOLE. */
  #readLine(text: string, start: number): number {
    if (this.#awaitsStatusLine) return this.#readStatusLine(text);
    if (text.charCodeAt(start) !== CARRIAGE_RETURN)
      return readFieldLine(text, start, this.#rawFields);
    const next = afterLineEnd(text, start);
    this.#isWhole = next !== NOT_WHOLE;
    return next;
  }

  #readStatusLine(text: string): number {
    const next = endOfStatusLine(text);
    if (next === NOT_WHOLE) return NOT_WHOLE;
    this.statusLine = parseStatusLine(text);
    this.#awaitsStatusLine = false;
    return next;
  }

  #hold(text: string): typeof NOT_WHOLE {
    this.#count(text.length);
    this.#held += text;
    return NOT_WHOLE;
  }

  #count(byteCount: number): void {
    this.#byteCount += byteCount;
    if (this.#byteCount > this.#maxBytes) {
      throw new MalformedAnswer(`a head or its trailers are longer than ${this.#maxBytes} bytes`);
    }
  }
}
