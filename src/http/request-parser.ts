/**
 * Parses the head of a request. Strict in what it accepts (RFC 9112), so that the app frames whatever passes
 * here in the same way. The README of this folder lists what it rejects, and why.
 */
import { CR, LF, SPACE, TARGET, TOKEN, addCut, type Unfinished } from './head-text.ts';
import {
  FIELD,
  FieldNames,
  FieldScan,
  INCOMPLETE,
  isChunkedCoding,
  NO_CONNECTION_OPTIONS,
  parseConnection,
  parseContentLength,
  TOO_MANY_FIELDS,
  type ConnectionOptions,
  type ScanRules,
} from './fields.ts';
import { MAX_EMPTY_LINES, MAX_METHOD_BYTES, type Limits } from './limits.ts';
import {
  CONFLICTING_FRAMING,
  HEAD_TOO_LONG,
  INVALID_CONNECTION,
  INVALID_FIELD,
  INVALID_HOST,
  INVALID_LENGTH,
  INVALID_LINE,
  INVALID_TARGET,
  NO_CONNECT,
  NO_HOST,
  TARGET_TOO_LONG,
  TOO_MANY_LINES,
  UNKNOWN_CODING,
  UNKNOWN_EXPECTATION,
  UNKNOWN_VERSION,
  type MalformedRequest,
  ParsedRequestHead,
  effectiveTarget,
  isHostValue,
  tunnelProtocols,
} from './request-head.ts';

interface ParsedRequest {
  readonly head: ParsedRequestHead;
  /** The position behind the head. */
  readonly end: number;
}

export interface RequestParserOptions extends Pick<Limits, 'headBytes' | 'fields' | 'targetBytes'> {
  /** Names, in lower case, that `Connection` may not name: credentials and sessions. */
  readonly protectedNames: ReadonlySet<string>;
  /** Names, in lower case, of the fields that `selected` of a head contains. */
  readonly selectedNames?: Iterable<string>;
}

/** Always protected: a message without them means something else (RFC 9110 §7.6.1). */
const PROTECTED: ReadonlySet<string> = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'content-type', 'content-encoding'],
  ...['authorization', 'cookie', 'set-cookie', 'origin', 'expect'],
]);
/** What the edge says of a request. A client can't remove it by naming it in `Connection`. */
const OF_THE_EDGE = /^(?:fly-|x-forwarded-|x-fly-affinity-|forwarded$|via$)/;

const VERSION = Buffer.from('HTTP/');
/** ` HTTP/1.1` and its line end. */
const VERSION_LINE_BYTES = 11;
const ZERO = 0x30;
const DOT = 0x2e;
const SLASH = 0x2f;

type Head = Unfinished<ParsedRequestHead>;

/** One for each listener: it keeps its scratch space from one head to the next. */
export class RequestParser {
  readonly #options: RequestParserOptions;
  readonly #names: FieldNames;
  readonly #scan: FieldScan;
  readonly #rules: ScanRules;
  #lastHost: string | undefined;
  /** Where the head that is being parsed begins. */
  #start = 0;

  constructor(options: RequestParserOptions) {
    this.#options = options;
    this.#names = new FieldNames(options.selectedNames);
    this.#scan = new FieldScan(this.#names);
    this.#rules = {
      maxFields: options.fields,
      allowsBlankBeforeColon: false,
      skipsUnknown: true,
    };
  }

  /** Parses the head that begins at `from`; undefined while the head is incomplete. */
  parse(bytes: Buffer, from: number, end: number): ParsedRequest | MalformedRequest | undefined {
    const { headBytes, targetBytes } = this.#options;
    const start = skipEmptyLines(bytes, from, end);
    if (typeof start !== 'number') return start;
    let at = start;
    while (at < end && TOKEN[bytes[at] ?? 0] === 1) at += 1;
    if (at - start > MAX_METHOD_BYTES) return INVALID_LINE;
    if (at >= end) return undefined;
    if (bytes[at] !== SPACE || at === start) return INVALID_LINE;
    const methodEnd = at;
    const targetStart = at + 1;
    at = targetStart;
    while (at < end && TARGET[bytes[at] ?? 0] === 1) at += 1;
    if (at - targetStart > targetBytes) return TARGET_TOO_LONG;
    if (at >= end) return undefined;
    if (bytes[at] !== SPACE || at === targetStart) return INVALID_LINE;
    const version = readVersion(bytes, at + 1, end);
    if (version === undefined) return end - start > headBytes ? HEAD_TOO_LONG : undefined;
    if (typeof version !== 'number') return version;

    const fieldsStart = at + VERSION_LINE_BYTES;
    const headEnd = this.#scan.scan(bytes, fieldsStart, end, this.#rules);
    if (headEnd === TOO_MANY_FIELDS) return TOO_MANY_LINES;
    if (headEnd < 0) return INVALID_FIELD;
    if ((headEnd > 0 ? headEnd : end) - start > headBytes) return HEAD_TOO_LONG;
    if (headEnd === INCOMPLETE) return undefined;

    const text = bytes.toString('latin1', start, headEnd);
    const method = text.slice(0, methodEnd - start);
    const target = text.slice(targetStart - start, at - start);
    const head = new ParsedRequestHead(text, method, target, version, fieldsStart - start);
    this.#start = start;
    return this.#readFields(head) ?? this.#complete(head) ?? { head, end: headEnd };
  }

  #readFields(parsed: ParsedRequestHead): MalformedRequest | undefined {
    const { codes, count } = this.#scan;
    const head = parsed as unknown as Head;
    for (let index = 0; index < count; index += 1) {
      const code = codes[index] ?? FIELD.other;
      // Its value is not used.
      if (code === FIELD.other) continue;
      const malformed = this.#readField(head, index, code);
      if (malformed !== undefined) return malformed;
    }
    return undefined;
  }

  /** Reads one field. Those that belong to the connection are not passed on. */
  #readField(head: Head, index: number, code: number): MalformedRequest | undefined {
    const scan = this.#scan;
    const valueStart = scan.valueStart(index) - this.#start;
    const valueEnd = scan.valueEnd(index) - this.#start;
    const { text } = head;
    const value = text.slice(valueStart, valueEnd);
    switch (code) {
      case FIELD.connection:
        head.connection = head.connection === undefined ? value : `${head.connection},${value}`;
        break;
      case FIELD.upgrade:
        head.upgrade = head.upgrade === undefined ? value : `${head.upgrade}, ${value}`;
        break;
      case FIELD.te:
      case FIELD.keepAlive:
      case FIELD.proxyConnection:
        break;
      case FIELD.transferEncoding:
        if (head.isChunked || !isChunkedCoding(text, valueStart, valueEnd)) return UNKNOWN_CODING;
        head.isChunked = true;
        break;
      case FIELD.expect:
        if (value.toLowerCase() !== '100-continue') return UNKNOWN_EXPECTATION;
        head.expectsContinue = true;
        break;
      default:
        return this.#readPassedField(head, code, value, valueStart);
    }
    const lineStart = scan.nameStart(index) - this.#start;
    addCut(head.cuts, lineStart, text.indexOf('\n', valueEnd) + 1);
    return undefined;
  }

  #readPassedField(
    head: Head,
    code: number,
    value: string,
    valueStart: number,
  ): MalformedRequest | undefined {
    switch (code) {
      case FIELD.contentLength:
        if (head.contentLength !== undefined) return INVALID_LENGTH;
        head.contentLength = parseContentLength(value);
        if (head.contentLength < 0) return INVALID_LENGTH;
        break;
      case FIELD.host:
        if (head.host !== undefined) return INVALID_HOST;
        head.host = this.#hostOf(value);
        if (head.host === undefined) return INVALID_HOST;
        break;
      case FIELD.forwardedFor:
        head.hasForwardedFor = true;
        break;
      case FIELD.forwardedProto:
        head.hasForwardedProto = true;
        break;
      case FIELD.via:
        head.via = head.via.length === 0 ? [value] : [...head.via, value];
        break;
      default:
        break;
    }
    const name = this.#names.selectedName(code);
    if (name === undefined) return undefined;
    head.selected.push(name, value);
    head.selectedAt.push(valueStart);
    return undefined;
  }

  /** Checks what only the whole head shows. */
  #complete(parsed: ParsedRequestHead): MalformedRequest | undefined {
    const head = parsed as unknown as Head;
    const { method, minorVersion, host } = head;
    if (host === undefined && minorVersion === 1) return NO_HOST;
    const hasLength = head.contentLength !== undefined;
    if (head.isChunked && (hasLength || minorVersion === 0)) return CONFLICTING_FRAMING;
    const connection = this.#connectionOptions(head.connection);
    if (connection === undefined) return INVALID_CONNECTION;
    if (method === 'CONNECT') return NO_CONNECT;
    if (head.target.charCodeAt(0) !== SLASH) {
      const effective = effectiveTarget(method, head.target, host);
      if (effective === undefined) return INVALID_TARGET;
      head.target = effective.target;
      head.authority = effective.authority;
    }
    const { hasBody } = parsed;
    head.wantsClose = connection.close || (minorVersion === 0 && !connection.keepAlive);
    if (head.upgrade !== undefined) {
      const asksForTunnel = connection.upgrade && minorVersion === 1 && !hasBody;
      head.upgrade = asksForTunnel ? tunnelProtocols(head.upgrade) : undefined;
    }
    head.expectsContinue &&= minorVersion === 1 && hasBody;
    if (connection.names.length > 0) parsed.cutNamed(connection.names);
    return undefined;
  }

  /** The options of `Connection`; undefined if they name what they must not. */
  #connectionOptions(value: string | undefined): ConnectionOptions | undefined {
    if (value === undefined) return NO_CONNECTION_OPTIONS;
    const options = parseConnection(value);
    if (options.names.length === 0) return options;
    const { protectedNames } = this.#options;
    const isAllowed = !options.names.some(
      (name) => PROTECTED.has(name) || protectedNames.has(name),
    );
    return isAllowed
      ? { ...options, names: options.names.filter((name) => !OF_THE_EDGE.test(name)) }
      : undefined;
  }

  /** The value of `Host`; most requests name the same one as the request before. */
  #hostOf(value: string): string | undefined {
    if (value === this.#lastHost) return this.#lastHost;
    if (!isHostValue(value)) return undefined;
    // A slice would keep the whole head in memory.
    this.#lastHost = Buffer.from(value, 'latin1').toString('latin1');
    return this.#lastHost;
  }
}

/** Where the request line begins; undefined if more bytes are needed. */
function skipEmptyLines(
  bytes: Buffer,
  from: number,
  end: number,
): number | MalformedRequest | undefined {
  let at = from;
  for (let lines = 0; at < end && bytes[at] === CR; lines += 1) {
    if (at + 1 >= end) return undefined;
    if (bytes[at + 1] !== LF || lines === MAX_EMPTY_LINES) return INVALID_LINE;
    at += 2;
  }
  return at;
}

/** The minor version, if the line ends behind it; undefined if more bytes are needed. */
function readVersion(
  bytes: Buffer,
  from: number,
  end: number,
): 0 | 1 | MalformedRequest | undefined {
  const available = Math.min(end - from, VERSION.length);
  for (let i = 0; i < available; i += 1) {
    if (bytes[from + i] !== VERSION[i]) return INVALID_LINE;
  }
  if (end - from < VERSION_LINE_BYTES - 1) return undefined;
  const major = (bytes[from + 5] ?? 0) - ZERO;
  const minor = (bytes[from + 7] ?? 0) - ZERO;
  const areDigits = major >= 0 && major <= 9 && minor >= 0 && minor <= 9;
  const isLine = bytes[from + 6] === DOT && bytes[from + 8] === CR && bytes[from + 9] === LF;
  if (!areDigits || !isLine) return INVALID_LINE;
  if (major !== 1 || minor > 1) return UNKNOWN_VERSION;
  return minor as 0 | 1;
}
