/**
 * The chunked coding (RFC 9112 §7.1), verified byte by byte as it passes. A scanner allocates nothing and
 * keeps no data: it says where the body ends, and on request where its data is.
 *
 *   SIZE ─; or blank─> EXTENSION ─CRLF─┐
 *     └──────────────CRLF──────────────┴─> size > 0: DATA ─CRLF─> SIZE
 *                                          size = 0: TRAILERS ─empty line─> done
 */
import { CR, HEX, LF, TOKEN, VALUE } from './head-text.ts';
import { MAX_CHUNK_BYTES, MAX_CHUNK_EXTENSION_BYTES, MAX_CHUNK_SIZE_DIGITS } from './limits.ts';
import { FieldScan, INCOMPLETE, FIELD } from './fields.ts';

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
  done: 15,
  broken: 16,
} as const;

const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Gets the positions of chunk data in the buffer that is being scanned. */
type OnData = (start: number, end: number) => void;

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
  /** A scan ends where the next chunk begins, or before the next data of this one. */
  stopsEarly = false;

  /** Before the first byte of a body. */
  reset(): void {
    this.#state = S.sizeStart;
    this.#left = 0;
    this.#sizeDigits = 0;
    this.#extensionBytes = 0;
    this.isDone = false;
    this.isInTrailers = false;
    this.stopsEarly = false;
  }

  /** The next byte begins a chunk. */
  get isBetweenChunks(): boolean {
    return this.#state === S.sizeStart;
  }

  /** Bytes of data of the current chunk that have not come yet; 0 where none are next. */
  get dataLeft(): number {
    return this.#state === S.data ? this.#left : 0;
  }

  /**
   * Goes on from `from`. Returns the position behind what belongs to the body, or behind its last chunk if
   * trailers follow; NOT_CHUNKED if the bytes break the coding.
   */
  scan(bytes: Uint8Array, from: number, end: number, onData?: OnData): number {
    let at = from;
    while (at < end) {
      if (this.stopsEarly && (this.isBetweenChunks || this.#state === S.data)) return at;
      const byte = bytes[at] ?? 0;
      if (this.#state === S.data) {
        const dataEnd = Math.min(end, at + this.#left);
        onData?.(at, dataEnd);
        this.#left -= dataEnd - at;
        at = dataEnd;
        if (this.#left === 0) this.#state = S.dataCr;
        continue;
      }
      if (this.#state === S.trailerStart && byte !== CR) {
        this.isInTrailers = true;
        return at;
      }
      this.#state = this.#next(byte);
      if (this.#state === S.broken) return NOT_CHUNKED;
      at += 1;
      if (this.#state === S.done) {
        this.isDone = true;
        return at;
      }
    }
    return at;
  }

  /** The state behind a byte that is no data. */
  #next(byte: number): number {
    switch (this.#state) {
      case S.sizeStart:
      case S.size:
        return this.#readSize(byte);
      case S.sizeLf:
        return byte === LF ? this.#endSizeLine() : S.broken;
      case S.dataCr:
        return byte === CR ? S.dataLf : S.broken;
      case S.dataLf:
        return byte === LF ? S.sizeStart : S.broken;
      case S.trailerStart:
        return S.trailerLf;
      case S.trailerLf:
        return byte === LF ? S.done : S.broken;
      default:
        return this.#readExtension(byte);
    }
  }

  #readSize(byte: number): number {
    const digit = HEX[byte] ?? -1;
    if (digit < 0) return this.#state === S.size ? endOfPart(byte) : S.broken;
    this.#sizeDigits += 1;
    this.#left = this.#left * 16 + digit;
    const isTooLarge = this.#sizeDigits > MAX_CHUNK_SIZE_DIGITS || this.#left > MAX_CHUNK_BYTES;
    return isTooLarge ? S.broken : S.size;
  }

  #endSizeLine(): number {
    this.#sizeDigits = 0;
    this.#extensionBytes = 0;
    return this.#left === 0 ? S.trailerStart : S.data;
  }

  #readExtension(byte: number): number {
    switch (this.#state) {
      case S.extensionStart:
        return TOKEN[byte] === 1 ? this.#within(S.extensionName) : S.broken;
      case S.extensionName:
        if (byte === EQUALS) return S.extensionValueStart;
        return TOKEN[byte] === 1 ? this.#within(S.extensionName) : endOfPart(byte);
      case S.extensionValueStart:
        if (byte === QUOTE) return S.quoted;
        return TOKEN[byte] === 1 ? S.extensionToken : S.broken;
      case S.extensionToken:
        return TOKEN[byte] === 1 ? this.#within(S.extensionToken) : endOfPart(byte);
      case S.quoted:
        if (byte === QUOTE) return S.afterQuoted;
        if (byte === BACKSLASH) return S.quotedPair;
        return VALUE[byte] === 1 ? this.#within(S.quoted) : S.broken;
      case S.quotedPair:
        return VALUE[byte] === 1 ? this.#within(S.quoted) : S.broken;
      default:
        return endOfPart(byte);
    }
  }

  /** That state, as long as the extensions are short enough. */
  #within(state: number): number {
    this.#extensionBytes += 1;
    return this.#extensionBytes > MAX_CHUNK_EXTENSION_BYTES ? S.broken : state;
  }
}

/** Behind a size, and behind each part of an extension: the end of the line or another extension. */
function endOfPart(byte: number): number {
  if (byte === CR) return S.sizeLf;
  return byte === SEMICOLON ? S.extensionStart : S.broken;
}

const FORBIDDEN: ReadonlySet<string> = new Set([
  ...['authorization', 'proxy-authorization', 'www-authenticate', 'proxy-authenticate'],
  ...['cookie', 'set-cookie', 'content-type', 'content-encoding', 'content-range', 'location'],
  ...['cache-control', 'age', 'date', 'expires', 'vary', 'retry-after', 'max-forwards', 'range'],
  ...['forwarded', 'origin', 'content-disposition'],
]);
const FORBIDDEN_PREFIX = /^(?:fly-|x-forwarded-|x-fly-affinity-|if-|access-control-)/;

export interface TrailerOptions {
  readonly maxBytes: number;
  readonly maxFields: number;
  /** More names, in lower case, that are not passed on: those of sessions. */
  readonly forbidden: ReadonlySet<string>;
}

/** The end of a chunked body without trailers. */
const EMPTY = '\r\n';

/**
 * The trailer section of a chunked body: read whole, and passed on without what frames, routes,
 * authenticates or reveals a session (RFC 9110 §6.5.1). llhttp acts on some of those fields even here.
 */
export class TrailerReader {
  readonly #options: TrailerOptions;
  #held: Buffer = Buffer.alloc(0);
  /** What is passed on once the section is complete: field lines and the empty line. */
  text: string | undefined;

  constructor(options: TrailerOptions) {
    this.#options = options;
  }

  /** The position behind the section, `end` while it goes on, or -1 if it is malformed or too long. */
  read(bytes: Buffer, from: number, end: number): number {
    const before = this.#held.length;
    const section = Buffer.concat([this.#held, bytes.subarray(from, end)]);
    this.#held = section;
    const { maxBytes, maxFields } = this.#options;
    const scan = new FieldScan();
    // A section is scanned once per line, and not once per packet; and up to the end of that line, so that
    // the split into packets makes no difference.
    const linesEnd = section.lastIndexOf(LF) + 1;
    const scanned =
      linesEnd > before
        ? scan.scan(section, 0, linesEnd, { maxFields, allowsBlankBeforeColon: false })
        : INCOMPLETE;
    if (scanned === INCOMPLETE) return section.length > maxBytes ? -1 : end;
    if (scanned < 0 || scanned > maxBytes) return -1;
    this.text = this.#passed(section, scan);
    return from + scanned - before;
  }

  #passed(section: Buffer, scan: FieldScan): string {
    let text = '';
    for (let index = 0; index < scan.count; index += 1) {
      const name = section.toString('latin1', scan.nameStart(index), scan.nameEnd(index));
      const lower = name.toLowerCase();
      const isForbidden =
        scan.codes[index] !== FIELD.other ||
        FORBIDDEN.has(lower) ||
        FORBIDDEN_PREFIX.test(lower) ||
        this.#options.forbidden.has(lower);
      if (isForbidden) continue;
      text += `${name}: ${section.toString('latin1', scan.valueStart(index), scan.valueEnd(index))}\r\n`;
    }
    return text + EMPTY;
  }
}
