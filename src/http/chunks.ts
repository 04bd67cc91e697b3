/**
 * The chunked coding (RFC 9112 §7.1), verified byte by byte as it passes. A scanner allocates nothing
 * and keeps no data: it says where the body ends, and on request where its data is.
 *
 *   SIZE ─; or blank─> EXTENSION ─CRLF─┐
 *     └──────────────CRLF──────────────┴─> size > 0: DATA ─CRLF─> SIZE
 *                                          size = 0: TRAILERS ─empty line─> done
 */
import { CR, HEX, LF, TOKEN, VALUE } from './characters.ts';

const S = {
  sizeStart: 0,
  size: 1,
  sizeLf: 2,
  extensionStart: 3,
  extensionName: 4,
  extensionValueStart: 5,
  extensionToken: 6,
  quoted: 7,
  quotedPair: 8,
  afterQuoted: 9,
  data: 10,
  dataCr: 11,
  dataLf: 12,
  trailerStart: 13,
  trailerLf: 14,
} as const;

const MAX_SIZE_DIGITS = 16;
const MAX_CHUNK_BYTES = 2 ** 48;
/** Of one chunk's extensions; nobody uses them, and they could be sent for ever. */
const MAX_EXTENSION_BYTES = 4_096;

const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Told where chunk data is; the positions are of the buffer that is being scanned. */
export type OnData = (start: number, end: number) => void;

export const NOT_CHUNKED = -1;

export class ChunkScanner {
  #state: number = S.sizeStart;
  #left = 0;
  #sizeDigits = 0;
  #extensionBytes = 0;
  /** The body has ended, and had no trailers. */
  isDone = false;
  /** The last chunk has ended, and trailers follow: the caller reads them. */
  isInTrailers = false;

  /** Before the first byte of a body. */
  reset(): void {
    this.#state = S.sizeStart;
    this.#left = 0;
    this.#sizeDigits = 0;
    this.#extensionBytes = 0;
    this.isDone = false;
    this.isInTrailers = false;
  }

  /**
   * Goes on from `from`. Returns the position behind what belongs to the body, or behind its last
   * chunk if trailers follow; NOT_CHUNKED if the bytes break the coding.
   */
  scan(bytes: Uint8Array, from: number, end: number, onData?: OnData): number {
    let at = from;
    let state = this.#state;
    while (at < end) {
      const byte = bytes[at] ?? 0;
      switch (state) {
        case S.sizeStart:
        case S.size: {
          const digit = HEX[byte] ?? -1;
          if (digit >= 0) {
            this.#sizeDigits += 1;
            this.#left = this.#left * 16 + digit;
            if (this.#sizeDigits > MAX_SIZE_DIGITS || this.#left > MAX_CHUNK_BYTES)
              return NOT_CHUNKED;
            state = S.size;
          } else if (state === S.sizeStart) return NOT_CHUNKED;
          else if (byte === CR) state = S.sizeLf;
          else if (byte === SEMICOLON) state = S.extensionStart;
          else return NOT_CHUNKED;
          at += 1;
          break;
        }
        case S.sizeLf:
          if (byte !== LF) return NOT_CHUNKED;
          this.#sizeDigits = 0;
          this.#extensionBytes = 0;
          state = this.#left === 0 ? S.trailerStart : S.data;
          at += 1;
          break;
        case S.extensionStart:
          if (TOKEN[byte] !== 1) return NOT_CHUNKED;
          state = S.extensionName;
          break;
        case S.extensionName:
          if (byte === CR) state = S.sizeLf;
          else if (byte === SEMICOLON) state = S.extensionStart;
          else if (byte === EQUALS) state = S.extensionValueStart;
          else if (TOKEN[byte] !== 1 || this.#isExtensionTooLong()) return NOT_CHUNKED;
          at += 1;
          break;
        case S.extensionValueStart:
          if (byte === QUOTE) state = S.quoted;
          else if (TOKEN[byte] === 1) state = S.extensionToken;
          else return NOT_CHUNKED;
          at += 1;
          break;
        case S.extensionToken:
          if (byte === CR) state = S.sizeLf;
          else if (byte === SEMICOLON) state = S.extensionStart;
          else if (TOKEN[byte] !== 1 || this.#isExtensionTooLong()) return NOT_CHUNKED;
          at += 1;
          break;
        case S.quoted:
          if (byte === QUOTE) state = S.afterQuoted;
          else if (byte === BACKSLASH) state = S.quotedPair;
          else if (VALUE[byte] !== 1 || this.#isExtensionTooLong()) return NOT_CHUNKED;
          at += 1;
          break;
        case S.quotedPair:
          if (VALUE[byte] !== 1 || this.#isExtensionTooLong()) return NOT_CHUNKED;
          state = S.quoted;
          at += 1;
          break;
        case S.afterQuoted:
          if (byte === CR) state = S.sizeLf;
          else if (byte === SEMICOLON) state = S.extensionStart;
          else return NOT_CHUNKED;
          at += 1;
          break;
        case S.data: {
          const dataEnd = Math.min(end, at + this.#left);
          onData?.(at, dataEnd);
          this.#left -= dataEnd - at;
          at = dataEnd;
          if (this.#left === 0) state = S.dataCr;
          break;
        }
        case S.dataCr:
          if (byte !== CR) return NOT_CHUNKED;
          state = S.dataLf;
          at += 1;
          break;
        case S.dataLf:
          if (byte !== LF) return NOT_CHUNKED;
          state = S.sizeStart;
          at += 1;
          break;
        case S.trailerStart:
          if (byte !== CR) {
            this.isInTrailers = true;
            this.#state = state;
            return at;
          }
          state = S.trailerLf;
          at += 1;
          break;
        case S.trailerLf:
          if (byte !== LF) return NOT_CHUNKED;
          this.isDone = true;
          return at + 1;
      }
    }
    this.#state = state;
    return at;
  }

  #isExtensionTooLong(): boolean {
    this.#extensionBytes += 1;
    return this.#extensionBytes > MAX_EXTENSION_BYTES;
  }
}
