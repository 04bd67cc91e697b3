/**
 * Parses the head of a response. Strict, but for a blank before the colon of a field that frames nothing: it
 * is removed (RFC 9112 §5.1).
 */
import { CR, LF, SPACE, VALUE, addCut, type Unfinished } from './head-text.ts';
import {
  FIELD,
  FieldNames,
  FieldScan,
  FIRST_SELECTED_CODE,
  INCOMPLETE,
  isChunkedCoding,
  NO_CONNECTION_OPTIONS,
  parseConnection,
  parseContentLength,
  type ScanRules,
} from './fields.ts';
import { ParsedResponseHead } from './response-head.ts';

interface ParsedResponse {
  readonly head: ParsedResponseHead;
  /** The position behind the head. */
  readonly end: number;
}

/** Why a response can't be passed on; a constant sentence for the log. */
export interface MalformedResponse {
  readonly reason: string;
}

export interface ResponseParserOptions {
  readonly headBytes: number;
  readonly fields: number;
  /** Names, in lower case, of the fields that `selected` of a head contains. */
  readonly selectedNames?: Iterable<string>;
}

const VERSION = Buffer.from('HTTP/1.');
/** `HTTP/1.1 200` and the byte behind. */
const CODE_AT = 9;
const CODE_END = 12;
const ZERO = 0x30;

type Head = Unfinished<ParsedResponseHead>;

/** One for each pool: it keeps its scratch space from one head to the next. */
export class ResponseParser {
  readonly #options: ResponseParserOptions;
  readonly #names: FieldNames;
  readonly #scan: FieldScan;
  readonly #rules: ScanRules;
  /** Where the head that is being parsed begins. */
  #start = 0;

  constructor(options: ResponseParserOptions) {
    this.#options = options;
    this.#names = new FieldNames(options.selectedNames);
    this.#scan = new FieldScan(this.#names);
    this.#rules = {
      maxFields: options.fields,
      allowsBlankBeforeColon: true,
      skipsUnknown: true,
    };
  }

  get headBytes(): number {
    return this.#options.headBytes;
  }

  /** Parses the head that begins at `from`; undefined while the head is incomplete. */
  parse(bytes: Buffer, from: number, end: number): ParsedResponse | MalformedResponse | undefined {
    const { headBytes } = this.#options;
    const lineEnd = scanStatusLine(bytes, from, end);
    if (typeof lineEnd === 'object') return lineEnd;
    if (lineEnd === undefined) return end - from > headBytes ? TOO_LONG : undefined;
    const headEnd = this.#scan.scan(bytes, lineEnd, end, this.#rules);
    if (headEnd < 0) return INVALID_FIELD;
    if ((headEnd > 0 ? headEnd : end) - from > headBytes) return TOO_LONG;
    if (headEnd === INCOMPLETE) return undefined;
    const text = bytes.toString('latin1', from, headEnd);
    const minorVersion = bytes[from + VERSION.length] === ZERO ? 0 : 1;
    const statusCode = Number(text.slice(CODE_AT, CODE_END));
    const head = new ParsedResponseHead(text, statusCode, minorVersion, lineEnd - from);
    this.#start = from;
    return this.#readFields(head) ?? this.#complete(head) ?? { head, end: headEnd };
  }

  #readFields(parsed: ParsedResponseHead): MalformedResponse | undefined {
    const { codes, count, hasBlankBeforeColon } = this.#scan;
    const head = parsed as unknown as Head;
    for (let index = 0; index < count; index += 1) {
      const code = codes[index] ?? FIELD.other;
      // Its value is not used.
      if (code === FIELD.other && !hasBlankBeforeColon) continue;
      const malformed = this.#readField(head, index, code);
      if (malformed !== undefined) return malformed;
    }
    return undefined;
  }

  /** Reads one field. Those that belong to the connection are not passed on. */
  #readField(head: Head, index: number, code: number): MalformedResponse | undefined {
    const scan = this.#scan;
    const { text } = head;
    const valueStart = scan.valueStart(index) - this.#start;
    const valueEnd = scan.valueEnd(index) - this.#start;
    const value = text.slice(valueStart, valueEnd);
    switch (code) {
      case FIELD.connection:
        head.connection = head.connection === undefined ? value : `${head.connection},${value}`;
        break;
      case FIELD.keepAlive:
        head.keepAlive = value;
        break;
      case FIELD.upgrade:
        head.upgrade = head.upgrade === undefined ? value : `${head.upgrade}, ${value}`;
        break;
      case FIELD.proxyConnection:
      case FIELD.te:
        break;
      case FIELD.transferEncoding:
        if (head.isChunked || !isChunkedCoding(text, valueStart, valueEnd)) return UNKNOWN_CODING;
        head.isChunked = true;
        break;
      default:
        return this.#readPassedField(head, index, code, value);
    }
    if (this.#hasBlank(text, index)) return INVALID_FIELD;
    this.#cutLine(head, index);
    return undefined;
  }

  #readPassedField(
    head: Head,
    index: number,
    code: number,
    value: string,
  ): MalformedResponse | undefined {
    if (code === FIELD.trailer) head.announcesTrailers = true;
    else if (code === FIELD.contentLength) {
      if (head.contentLength !== undefined) return INVALID_LENGTH;
      head.contentLength = parseContentLength(value);
      if (head.contentLength < 0) return INVALID_LENGTH;
    }
    if (this.#hasBlank(head.text, index)) {
      if (code < FIRST_SELECTED_CODE && code !== FIELD.other) return INVALID_FIELD;
      const nameEnd = this.#scan.nameEnd(index) - this.#start;
      addCut(head.cuts, nameEnd, head.text.indexOf(':', nameEnd));
    }
    // RFC 9110 §8.6: no length in a 1xx or a 204.
    const isWithoutLength = head.statusCode < 200 || head.statusCode === 204;
    const name = this.#names.selectedName(code);
    if (code === FIELD.contentLength && isWithoutLength) this.#cutLine(head, index);
    else if (name !== undefined) head.selected.push(name, value);
    return undefined;
  }

  #hasBlank(text: string, index: number): boolean {
    const scan = this.#scan;
    return scan.hasBlankBeforeColon && text[scan.nameEnd(index) - this.#start] !== ':';
  }

  #cutLine(head: Head, index: number): void {
    const from = this.#scan.nameStart(index) - this.#start;
    const valueEnd = this.#scan.valueEnd(index) - this.#start;
    addCut(head.cuts, from, head.text.indexOf('\n', valueEnd) + 1);
  }

  /** Checks what only the whole head shows. */
  #complete(parsed: ParsedResponseHead): MalformedResponse | undefined {
    const head = parsed as unknown as Head;
    if (head.isChunked && head.contentLength !== undefined) return CONFLICTING_FRAMING;
    if (head.isChunked && head.minorVersion === 0) return CHUNKS_IN_OLD_VERSION;
    const connection =
      head.connection === undefined ? NO_CONNECTION_OPTIONS : parseConnection(head.connection);
    head.isPersistent = !connection.close && (head.minorVersion === 1 || connection.keepAlive);
    // An empty value names no protocol, and clients would not take it for a switch.
    if (!connection.upgrade || head.upgrade === '') head.upgrade = undefined;
    if (connection.names.length > 0) parsed.cutNamed(connection.names);
    return undefined;
  }
}

/** Where the line after the status line begins; undefined if it has not ended yet. */
function scanStatusLine(
  bytes: Buffer,
  from: number,
  end: number,
): number | MalformedResponse | undefined {
  const available = Math.min(end - from, VERSION.length);
  for (let i = 0; i < available; i += 1) if (bytes[from + i] !== VERSION[i]) return INVALID_LINE;
  if (end - from <= CODE_END) return undefined;
  const minor = (bytes[from + VERSION.length] ?? 0) - ZERO;
  const isRight = (minor === 0 || minor === 1) && bytes[from + CODE_AT - 1] === SPACE;
  if (!isRight || !isStatusCode(bytes, from + CODE_AT)) return INVALID_LINE;
  // Many servers without a reason phrase leave out the space before it.
  let at = from + CODE_END;
  if (bytes[at] !== SPACE && bytes[at] !== CR) return INVALID_LINE;
  while (at < end && VALUE[bytes[at] ?? 0] === 1) at += 1;
  if (at >= end) return undefined;
  if (bytes[at] !== CR) return INVALID_LINE;
  if (at + 1 >= end) return undefined;
  return bytes[at + 1] === LF ? at + 2 : INVALID_LINE;
}

function isStatusCode(bytes: Buffer, at: number): boolean {
  const first = (bytes[at] ?? 0) - ZERO;
  const second = (bytes[at + 1] ?? 0) - ZERO;
  const third = (bytes[at + 2] ?? 0) - ZERO;
  return first >= 1 && first <= 9 && second >= 0 && second <= 9 && third >= 0 && third <= 9;
}

function malformed(reason: string): MalformedResponse {
  return { reason };
}

const INVALID_LINE = malformed('the status line is not one of HTTP/1.1 or HTTP/1.0');
const INVALID_FIELD = malformed('a field line is malformed, or there are too many');
const TOO_LONG = malformed('the head is longer than the limit');
const INVALID_LENGTH = malformed('Content-Length is not one number');
const UNKNOWN_CODING = malformed('Transfer-Encoding is not just chunked');
const CONFLICTING_FRAMING = malformed('Transfer-Encoding beside Content-Length');
const CHUNKS_IN_OLD_VERSION = malformed('Transfer-Encoding in a response of HTTP/1.0');
