/**
 * Undoes the chunked coding (RFC 9112 §7.1), strictly, wherever the bytes are cut; the trailers
 * after the last chunk are not its business.
 *
 *   size --';'--> extension --CR--> size-end --LF--> data (size > 0) --all bytes--> data-cr
 *    | ^--CR-----------------------^ |                                                |
 *    '--------------------------------'--LF, size 0--> done       size <--LF-- data-lf <--CR--'
 */
import { MalformedAnswer } from './malformed.ts';

/** Of one chunk; nobody reads them, so they must not be a way to keep us busy. In bytes. */
const MAX_EXTENSION_BYTES = 4096;
/** Leading zeros included; 2^52 is more than any chunk. */
const MAX_SIZE_DIGITS = 13;

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const SEMICOLON = 0x3b;
const DELETE = 0x7f;

type State = 'size' | 'extension' | 'size-end' | 'data' | 'data-cr' | 'data-lf' | 'done';

export class ChunkedDecoder {
  #state: State = 'size';
  /** Of the chunk: while its size is read, and then what has not come of it. */
  #left = 0;
  #digitCount = 0;
  #extensionBytes = 0;
  /** Where the data stands after `decode`; equal if there is none. */
  dataStart = 0;
  dataEnd = 0;

  get isDone(): boolean {
    return this.#state === 'done';
  }

  begin(): void {
    this.#state = 'size';
    this.#left = 0;
    this.#digitCount = 0;
  }

  /**
   * Decodes what is between `start` and `end`. The data of all chunks in it is moved together in
   * `bytes` itself, so that it goes on in one piece. Returns where it stopped: at `end`, or after
   * the line of the last chunk.
   */
  decode(bytes: Buffer, start: number, end: number): number {
    let at = start;
    this.dataStart = this.dataEnd = start;
    while (at < end && this.#state !== 'done') {
      at = this.#state === 'data' ? this.#takeData(bytes, at, end) : this.#takeByte(bytes, at);
    }
    return at;
  }

  #takeData(bytes: Buffer, at: number, end: number): number {
    const dataEnd = Math.min(at + this.#left, end);
    const byteCount = dataEnd - at;
    if (this.dataEnd === this.dataStart) this.dataStart = this.dataEnd = at;
    else bytes.copyWithin(this.dataEnd, at, dataEnd);
    this.dataEnd += byteCount;
    this.#left -= byteCount;
    if (this.#left === 0) this.#state = 'data-cr';
    return dataEnd;
  }

  #takeByte(bytes: Buffer, at: number): number {
    const byte = bytes[at] ?? 0;
    switch (this.#state) {
      case 'size':
        this.#takeSize(byte);
        break;
      case 'extension':
        this.#takeExtension(byte);
        break;
      case 'size-end':
        expect(byte, LINE_FEED);
        this.#state = this.#left === 0 ? 'done' : 'data';
        break;
      case 'data-cr':
        expect(byte, CARRIAGE_RETURN);
        this.#state = 'data-lf';
        break;
      case 'data-lf':
        expect(byte, LINE_FEED);
        this.begin();
        break;
      case 'data':
      case 'done':
        break;
    }
    return at + 1;
  }

  #takeSize(byte: number): void {
    const digit = hexDigit(byte);
    if (digit !== -1 && this.#digitCount < MAX_SIZE_DIGITS) {
      this.#left = this.#left * 16 + digit;
      this.#digitCount += 1;
    } else if (this.#digitCount > 0 && byte === CARRIAGE_RETURN) {
      this.#state = 'size-end';
    } else if (this.#digitCount > 0 && byte === SEMICOLON) {
      this.#state = 'extension';
      this.#extensionBytes = 0;
    } else {
      throw new MalformedAnswer('a chunk size is not a hexadecimal number');
    }
  }

  #takeExtension(byte: number): void {
    if (byte === CARRIAGE_RETURN) {
      this.#state = 'size-end';
      return;
    }
    this.#extensionBytes += 1;
    const isText = byte >= SPACE ? byte !== DELETE : byte === TAB;
    if (!isText || this.#extensionBytes > MAX_EXTENSION_BYTES) {
      throw new MalformedAnswer('a chunk extension is too long or has a control character in it');
    }
  }
}

function expect(byte: number, expected: number): void {
  if (byte !== expected) throw new MalformedAnswer('a chunk or its size does not end with CR LF');
}

/** -1 for any other byte. */
function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}
