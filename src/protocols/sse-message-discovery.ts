/**
 * Discovers a session id in the messages at the beginning of an event stream. Each message is held from its
 * data on until it is complete, and goes out if it reveals no id. Lines without data are held only until
 * they end.
 */
import {
  inspected,
  MAX_HELD_BYTES,
  NO_BYTES,
  NO_IDS,
  readIdsOf,
  type BodyInspector,
  type InspectedChunk,
} from './body-inspector.ts';
import type { DiscoveredId, MessageDiscovery, Protocol } from './protocol.ts';
import { parseSseField } from './sse-lines.ts';

const LF = 0x0a;
const CR = 0x0d;
const FIRST_OF_DATA = 0x64;
/** A byte order mark may come first, one character a byte. */
const BYTE_ORDER_MARK = /^\xef\xbb\xbf/;

export interface MessageIdsReader {
  readonly protocol: Protocol;
  readonly discovery: Pick<MessageDiscovery, 'mayHold' | 'read'>;
}

export class SseMessageInspector implements BodyInspector {
  readonly #readers: readonly MessageIdsReader[];
  #held = NO_BYTES;
  /** Where the last line begins in the held bytes. */
  #lineAt = 0;
  #isFirstLine = true;
  /** The last byte was a CR: the LF of a CRLF may follow. */
  #isAfterCr = false;
  #inspectedBytes = 0;
  #data: string[] = [];
  #isDone = false;

  constructor(readers: readonly MessageIdsReader[]) {
    this.#readers = readers;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone) return this.#finish(chunk);
    const held = this.#held.length;
    const bytes = held === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const until = Math.min(bytes.length, held + MAX_HELD_BYTES - this.#inspectedBytes);
    this.#inspectedBytes += until - held;
    // A stream that the app writes at once is not read line by line for an id that it does not have.
    if (until < bytes.length && !this.#mayHold(bytes, until)) return this.#finish(bytes);
    const read = this.#readLines(bytes, held, until);
    if (read.discovered.length > 0) return this.#finish(bytes, read.discovered);
    if (until < bytes.length) return this.#finish(bytes);
    this.#held = Uint8Array.from(bytes.subarray(read.outUntil));
    this.#lineAt -= read.outUntil;
    return inspected(bytes.subarray(0, read.outUntil), NO_IDS, false);
  }

  #mayHold(bytes: Uint8Array, until: number): boolean {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, until).toString('latin1');
    return this.#readers.some(({ discovery }) => discovery.mayHold(text));
  }

  /** Reads the lines that end from `from` on. What comes before `outUntil` can't reveal an id any more. */
  #readLines(bytes: Uint8Array, from: number, until: number): LinesRead {
    let outUntil = 0;
    for (let at = from; at < until; at += 1) {
      const isSecondHalf = this.#isAfterCr && bytes[at] === LF;
      this.#isAfterCr = false;
      if (isSecondHalf) this.#lineAt = at + 1;
      else {
        at = endOfLine(bytes, at, until);
        if (at === until) break;
        const discovered = this.#endLine(bytes, at);
        if (discovered.length > 0) return { outUntil, discovered };
        this.#isAfterCr = bytes[at] === CR;
      }
      if (this.#data.length === 0) outUntil = this.#lineAt;
    }
    return { outUntil, discovered: NO_IDS };
  }

  /** A client that is less strict than the standard may accept an event that has not ended. */
  end(): InspectedChunk {
    if (this.#isDone) return this.#finish(NO_BYTES);
    const held = this.#held;
    const inLastLine = this.#endLine(held, held.length);
    return this.#finish(held, inLastLine.length > 0 ? inLastLine : this.#endEvent());
  }

  #endLine(bytes: Uint8Array, end: number): readonly DiscoveredId[] {
    const start = this.#lineAt;
    const isFirst = this.#isFirstLine;
    this.#lineAt = end + 1;
    this.#isFirstLine = false;
    if (start === end) return this.#endEvent();
    // Only lines with data matter.
    if (!isFirst && bytes[start] !== FIRST_OF_DATA) return NO_IDS;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
    const line = isFirst
      ? text.toString('latin1').replace(BYTE_ORDER_MARK, '')
      : text.toString('latin1');
    if (line === '') return this.#endEvent();
    const { field, value } = parseSseField(line);
    if (field === 'data') this.#data.push(value);
    return NO_IDS;
  }

  #endEvent(): readonly DiscoveredId[] {
    const data = this.#data;
    this.#data = [];
    return data.length === 0 ? NO_IDS : readIdsOf(this.#readers, data.join('\n'));
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#held = NO_BYTES;
    return inspected(out, discovered, true);
  }
}

interface LinesRead {
  readonly outUntil: number;
  readonly discovered: readonly DiscoveredId[];
}

function endOfLine(bytes: Uint8Array, from: number, until: number): number {
  let at = from;
  while (at < until && bytes[at] !== LF && bytes[at] !== CR) at += 1;
  return at;
}
