/**
 * The head of a response. Strict, but for a blank before the colon of a field that frames nothing: it
 * is removed on the way (RFC 9112 §5.1).
 */
import { CR, LF, SPACE, VALUE } from './characters.ts';
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
import { HeadText } from './head-text.ts';

export interface ParsedResponseHead {
  /** As it came, one character a byte, from the status line to the empty line. */
  readonly text: string;
  readonly statusCode: number;
  readonly minorVersion: 0 | 1;
  /** Name, value, name, value: the fields that are passed on, in order and case. Built at the first access. */
  readonly rawHeaders: readonly string[];
  /** Name, value, name, value: the fields of `selectedNames`, if they are passed on; names in lower case. */
  readonly selected: readonly string[];
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  /** Pairs of positions in `text` of what is not passed on. */
  readonly cuts: readonly number[];
  /** Undefined without the field. */
  readonly contentLength: number | undefined;
  readonly isChunked: boolean;
  /** The upstream says that the connection may be used again. */
  readonly isPersistent: boolean;
  /** The value of `Keep-Alive`. */
  readonly keepAlive: string | undefined;
  /** `Trailer` announces what may follow chunks. */
  readonly announcesTrailers: boolean;
  /** The protocol that is switched to. */
  readonly upgrade: string | undefined;
}

export interface ParsedResponse {
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

/** Names that a response's `Connection` can't take away. */
const KEPT =
  /^(?:set-cookie|content-.*|date|location|fly-.*|x-fly-affinity-.*|mcp-session-id|x-session-id|www-authenticate|vary|cache-control)$/;

const VERSION = Buffer.from('HTTP/1.');
/** `HTTP/1.1 200` and the byte behind. */
const CODE_AT = 9;
const CODE_END = 12;
const ZERO = 0x30;

/** One for each pool: it keeps its scratch space from one head to the next. */
export class ResponseParser {
  readonly #options: ResponseParserOptions;
  readonly #names: FieldNames;
  readonly #scan: FieldScan;
  readonly #rules: ScanRules;

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

  /** Reads the head that begins at `from`; undefined as long as it may still go on behind `end`. */
  parse(bytes: Buffer, from: number, end: number): ParsedResponse | MalformedResponse | undefined {
    const { headBytes } = this.#options;
    const lineEnd = scanStatusLine(bytes, from, end);
    if (typeof lineEnd === 'object') return lineEnd;
    if (lineEnd === undefined) return end - from > headBytes ? TOO_LONG : undefined;
    const scanned = this.#scan.scan(bytes, lineEnd, end, this.#rules);
    if (scanned < 0) return INVALID_FIELD;
    if ((scanned > 0 ? scanned : end) - from > headBytes) return TOO_LONG;
    if (scanned === INCOMPLETE) return undefined;
    const text = bytes.toString('latin1', from, scanned);
    const head = this.#interpret(bytes, from, text, lineEnd - from);
    return 'reason' in head ? head : { head, end: scanned };
  }

  #interpret(
    bytes: Buffer,
    start: number,
    text: string,
    fieldsStart: number,
  ): ParsedResponseHead | MalformedResponse {
    const scan = this.#scan;
    const { hasBlankBeforeColon } = scan;
    const statusCode = Number(text.slice(CODE_AT, CODE_END));
    // RFC 9110 §8.6, RFC 9112 §6.1: neither in a 1xx nor in a 204.
    const isWithoutFraming = statusCode < 200 || statusCode === 204;
    const selected: string[] = [];
    const cuts: number[] = [];
    let connectionText: string | undefined;
    let keepAlive: string | undefined;
    let upgrade: string | undefined;
    let contentLength: number | undefined;
    let isChunked = false;
    let announcesTrailers = false;

    for (let index = 0; index < scan.count; index += 1) {
      const code = scan.codes[index] ?? FIELD.other;
      // Nobody wants to know what it says.
      if (code === FIELD.other && !hasBlankBeforeColon) continue;
      const valueStart = scan.valueStart(index) - start;
      const valueEnd = scan.valueEnd(index) - start;
      const value = text.slice(valueStart, valueEnd);
      let isPassed = true;
      switch (code) {
        case FIELD.connection:
          connectionText = connectionText === undefined ? value : `${connectionText},${value}`;
          isPassed = false;
          break;
        case FIELD.keepAlive:
          keepAlive = value;
          isPassed = false;
          break;
        case FIELD.upgrade:
          upgrade = upgrade === undefined ? value : `${upgrade}, ${value}`;
          isPassed = false;
          break;
        case FIELD.trailer:
          announcesTrailers = true;
          break;
        case FIELD.proxyConnection:
        case FIELD.te:
          isPassed = false;
          break;
        case FIELD.transferEncoding:
          if (isChunked || !isChunkedCoding(text, valueStart, valueEnd)) return UNKNOWN_CODING;
          isChunked = true;
          // Whoever passes the framing on says so itself.
          isPassed = false;
          break;
        case FIELD.contentLength:
          if (contentLength !== undefined) return INVALID_LENGTH;
          contentLength = parseContentLength(bytes, valueStart + start, valueEnd + start);
          if (contentLength < 0) return INVALID_LENGTH;
          isPassed = !isWithoutFraming;
          break;
        default:
          break;
      }
      const nameStart = scan.nameStart(index) - start;
      const nameEnd = scan.nameEnd(index) - start;
      if (hasBlankBeforeColon && text[nameEnd] !== ':') {
        if (code < FIRST_SELECTED_CODE && code !== FIELD.other) return INVALID_FIELD;
        cut(cuts, nameEnd, text.indexOf(':', nameEnd));
      }
      const name = this.#names.selectedName(code);
      if (!isPassed) cut(cuts, nameStart, text.indexOf('\n', valueEnd) + 1);
      else if (name !== undefined) selected.push(name, value);
    }

    const minorVersion = bytes[start + VERSION.length] === ZERO ? 0 : 1;
    if (isChunked && contentLength !== undefined) return CONFLICTING_FRAMING;
    const connection =
      connectionText === undefined ? NO_CONNECTION_OPTIONS : parseConnection(connectionText);
    if (isChunked && minorVersion === 0) return CHUNKS_IN_OLD_VERSION;
    const head = new ResponseHeadText(text, statusCode, minorVersion);
    head.selected = selected;
    head.fieldsStart = fieldsStart;
    head.fieldsEnd = text.length - 2;
    head.cuts = cuts;
    head.contentLength = contentLength;
    head.isChunked = isChunked;
    head.isPersistent = !connection.close && (minorVersion === 1 || connection.keepAlive);
    head.keepAlive = keepAlive;
    head.announcesTrailers = announcesTrailers;
    // An empty value names no protocol, and clients would not take it for a switch.
    if (connection.upgrade && upgrade !== '') head.upgrade = upgrade;
    if (connection.names.length > 0) head.dropNamed(connection.names);
    return head;
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
  // The space before the reason is left out by many servers where there is no reason.
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

function cut(cuts: number[], from: number, to: number): void {
  if (from === to) return;
  if (cuts.at(-1) === from) cuts[cuts.length - 1] = to;
  else cuts.push(from, to);
}

class ResponseHeadText extends HeadText implements ParsedResponseHead {
  readonly statusCode: number;
  readonly minorVersion: 0 | 1;
  selected: readonly string[] = [];
  contentLength: number | undefined;
  isChunked = false;
  isPersistent = false;
  keepAlive: string | undefined;
  announcesTrailers = false;
  upgrade: string | undefined;

  constructor(text: string, statusCode: number, minorVersion: 0 | 1) {
    super(text);
    this.statusCode = statusCode;
    this.minorVersion = minorVersion;
  }

  /** Fields that `Connection` names belong to that connection too (RFC 9110 §7.6.1). */
  dropNamed(names: readonly string[]): void {
    const named = new Set(names.filter((name) => !KEPT.test(name)));
    if (named.size === 0) return;
    const cuts = [...this.cuts];
    for (let at = this.fieldsStart; at < this.fieldsEnd;) {
      const next = this.text.indexOf('\n', at) + 1;
      const name = /^[^:\s]*/.exec(this.text.slice(at, next))?.[0].toLowerCase() ?? '';
      if (named.has(name)) cuts.push(at, next);
      at = next;
    }
    this.cuts = merged(cuts);
    this.selected = this.selected.filter((_, i, all) => !named.has(all[i - (i % 2)] ?? ''));
  }
}

/** In order, and without overlaps. */
function merged(cuts: readonly number[]): number[] {
  const pairs: [number, number][] = [];
  for (let i = 0; i < cuts.length; i += 2) pairs.push([cuts[i] ?? 0, cuts[i + 1] ?? 0]);
  pairs.sort(([one], [other]) => one - other);
  const result: number[] = [];
  for (const [from, to] of pairs) {
    const lastEnd = result.at(-1) ?? -1;
    if (from <= lastEnd) result[result.length - 1] = Math.max(lastEnd, to);
    else result.push(from, to);
  }
  return result;
}

function broken(reason: string): MalformedResponse {
  return { reason };
}

const INVALID_LINE = broken('the status line is not one of HTTP/1.1 or HTTP/1.0');
const INVALID_FIELD = broken('a field line is malformed, or there are too many');
const TOO_LONG = broken('the head is longer than the limit');
const INVALID_LENGTH = broken('Content-Length is not one number');
const UNKNOWN_CODING = broken('Transfer-Encoding is not just chunked');
const CONFLICTING_FRAMING = broken('Transfer-Encoding stands beside Content-Length');
const CHUNKS_IN_OLD_VERSION = broken('Transfer-Encoding stands in a response of HTTP/1.0');
