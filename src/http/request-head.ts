/**
 * The head of a request: strict in what it accepts (RFC 9112), so that whatever passes here is framed
 * the same by the app behind. What it refuses, and why, stands in the README of this folder.
 */
import { CR, LF, SPACE, TARGET, TOKEN } from './characters.ts';
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
import { HeadText, type CutText } from './head-text.ts';
import type { Limits } from './limits.ts';

export interface ParsedRequestHead {
  /** As it came, one character a byte, from the request line to the empty line. */
  readonly text: string;
  readonly method: string;
  /** In origin-form, or `*` (RFC 9112 §3.2); of an absolute-form the rest. */
  readonly target: string;
  readonly minorVersion: 0 | 1;
  /**
   * Name, value, name, value: the fields that are passed on, in order and case. `Transfer-Encoding`
   * and `Expect` are not among them: whoever passes the body on says how. Built at the first access.
   */
  readonly rawHeaders: readonly string[];
  /** Name, value, name, value: the fields of `selectedNames`, if they are passed on; names in lower case. */
  readonly selected: readonly string[];
  /** Where in `text` each of their values begins. */
  readonly selectedAt: readonly number[];
  /** Where in `text` the field lines begin, and where the empty line is. */
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  /** Pairs of positions in `text`: the lines of fields that are not passed on. */
  readonly cuts: readonly number[];
  /** Undefined without the field. */
  readonly contentLength: number | undefined;
  readonly isChunked: boolean;
  /** The client wants the connection closed after the response. */
  readonly wantsClose: boolean;
  /** The protocols to switch to: the value of `Upgrade`, less what is no tunnel. */
  readonly upgrade: string | undefined;
  readonly expectsContinue: boolean;
  /** The value of `Host`. */
  readonly host: string | undefined;
  /** The authority of a target in absolute-form. */
  readonly authority: string | undefined;
  readonly hasForwardedFor: boolean;
  readonly hasForwardedProto: boolean;
  /** The values of `Via`, in order. */
  readonly via: readonly string[];
}

export type MalformedStatus = 400 | 408 | 414 | 417 | 431 | 501 | 503 | 505;

/** Why a request is refused. `reason` is a constant sentence for the log. */
export interface MalformedRequest {
  readonly status: MalformedStatus;
  readonly reason: string;
}

export interface ParsedRequest {
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
/** What the edge says of a request. A client can't take it away by naming it in `Connection`. */
const OF_THE_EDGE = /^(?:fly-|x-forwarded-|x-fly-affinity-|forwarded$|via$)/;

const VERSION = Buffer.from('HTTP/');
const MAX_METHOD_BYTES = 64;
/** Empty lines before a request line that are skipped (RFC 9112 §2.2). */
const MAX_EMPTY_LINES = 2;
const ZERO = 0x30;

/** One for each listener: it keeps its scratch space from one head to the next. */
export class RequestParser {
  readonly #options: RequestParserOptions;
  readonly #names: FieldNames;
  readonly #scan: FieldScan;
  readonly #rules: ScanRules;
  #lastHost = '';
  #lastHostBytes = Buffer.alloc(0);

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

  /** Reads the head that begins at `from`; undefined as long as it may still go on behind `end`. */
  parse(bytes: Buffer, from: number, end: number): ParsedRequest | MalformedRequest | undefined {
    const { headBytes, targetBytes } = this.#options;
    let at = from;
    for (let lines = 0; at < end && bytes[at] === CR; lines += 1) {
      if (at + 1 >= end) return undefined;
      if (bytes[at + 1] !== LF || lines === MAX_EMPTY_LINES) return INVALID_LINE;
      at += 2;
    }
    const start = at;
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
    const targetEnd = at;
    const version = readVersion(bytes, at + 1, end);
    if (version === undefined) return end - start > headBytes ? HEAD_TOO_LONG : undefined;
    if (typeof version !== 'number') return version;

    const fieldsStart = targetEnd + VERSION_LINE_BYTES;
    const scanned = this.#scan.scan(bytes, fieldsStart, end, this.#rules);
    const isTooLong = (scanned > 0 ? scanned : end) - start > headBytes;
    if (scanned === TOO_MANY_FIELDS) return TOO_MANY;
    if (scanned < 0) return INVALID_FIELD;
    if (isTooLong) return HEAD_TOO_LONG;
    if (scanned === INCOMPLETE) return undefined;

    const text = bytes.toString('latin1', start, scanned);
    const method = text.slice(0, methodEnd - start);
    const target = text.slice(targetStart - start, targetEnd - start);
    const head = this.#interpret({ bytes, start, text, method, target, fieldsStart, version });
    return 'status' in head ? head : { head, end: scanned };
  }

  #interpret(line: RequestLine): ParsedRequestHead | MalformedRequest {
    const { bytes, start, text, method, target, version, fieldsStart } = line;
    const scan = this.#scan;
    const selected: string[] = [];
    const selectedAt: number[] = [];
    const cuts: number[] = [];
    let connectionText: string | undefined;
    let upgrade: string | undefined;
    let host: string | undefined;
    let via: string[] | undefined;
    let contentLength: number | undefined;
    let isChunked = false;
    let expectsContinue = false;
    let hasForwardedFor = false;
    let hasForwardedProto = false;

    for (let index = 0; index < scan.count; index += 1) {
      const code = scan.codes[index] ?? FIELD.other;
      // Nobody wants to know what it says.
      if (code === FIELD.other) continue;
      const valueStart = scan.valueStart(index);
      const valueEnd = scan.valueEnd(index);
      const value = text.slice(valueStart - start, valueEnd - start);
      switch (code) {
        case FIELD.connection:
          connectionText = connectionText === undefined ? value : `${connectionText},${value}`;
          cutLine(cuts, scan, index, start, text);
          continue;
        case FIELD.upgrade:
          upgrade = upgrade === undefined ? value : `${upgrade}, ${value}`;
          cutLine(cuts, scan, index, start, text);
          continue;
        case FIELD.te:
        case FIELD.keepAlive:
        case FIELD.proxyConnection:
          cutLine(cuts, scan, index, start, text);
          continue;
        case FIELD.transferEncoding:
          if (isChunked || !isChunkedCoding(text, valueStart - start, valueEnd - start)) {
            return UNKNOWN_CODING;
          }
          isChunked = true;
          cutLine(cuts, scan, index, start, text);
          continue;
        case FIELD.expect:
          if (value.toLowerCase() !== '100-continue') return UNKNOWN_EXPECTATION;
          expectsContinue = true;
          cutLine(cuts, scan, index, start, text);
          continue;
        case FIELD.contentLength:
          if (contentLength !== undefined) return INVALID_LENGTH;
          contentLength = parseContentLength(bytes, valueStart, valueEnd);
          if (contentLength < 0) return INVALID_LENGTH;
          break;
        case FIELD.host:
          if (host !== undefined) return INVALID_HOST;
          host = this.#hostIn(bytes, valueStart, valueEnd);
          if (host === undefined) return INVALID_HOST;
          break;
        case FIELD.forwardedFor:
          hasForwardedFor = true;
          break;
        case FIELD.forwardedProto:
          hasForwardedProto = true;
          break;
        case FIELD.via:
          (via ??= []).push(value);
          break;
        default:
          break;
      }
      const name = this.#names.selectedName(code);
      if (name === undefined) continue;
      selected.push(name, value);
      selectedAt.push(valueStart - start);
    }

    if (host === undefined && version === 1) return NO_HOST;
    if (isChunked && (contentLength !== undefined || version === 0)) return CONFLICTING_FRAMING;
    const connection = this.#connectionOf(connectionText);
    if (connection === undefined) return INVALID_CONNECTION;
    const effective = effectiveTarget(method, target, host);
    if (effective === undefined) return method === 'CONNECT' ? NO_CONNECT : INVALID_TARGET;
    const hasBody = isChunked || (contentLength ?? 0) > 0;
    const head = new RequestHeadText(text, selected, selectedAt);
    head.method = method;
    head.target = effective.target;
    head.authority = effective.authority;
    head.minorVersion = version;
    head.fieldsStart = fieldsStart - start;
    head.fieldsEnd = text.length - 2;
    head.cuts = cuts;
    head.contentLength = contentLength;
    head.isChunked = isChunked;
    head.wantsClose = connection.close || (version === 0 && !connection.keepAlive);
    if (upgrade !== undefined && connection.upgrade && version === 1 && !hasBody) {
      head.upgrade = tunnelProtocols(upgrade);
    }
    head.expectsContinue = expectsContinue && version === 1 && hasBody;
    head.host = host;
    head.hasForwardedFor = hasForwardedFor;
    head.hasForwardedProto = hasForwardedProto;
    if (via) head.via = via;
    if (connection.names.length > 0) head.dropNamed(new Set(connection.names));
    return head;
  }

  /** The options of `Connection`; undefined if they name what they must not. */
  #connectionOf(value: string | undefined): ConnectionOptions | undefined {
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
  #hostIn(bytes: Buffer, start: number, end: number): string | undefined {
    const last = this.#lastHostBytes;
    if (isSame(bytes, start, end, last)) return this.#lastHost;
    const host = bytes.toString('latin1', start, end);
    if (!HOST.test(host)) return undefined;
    this.#lastHost = host;
    this.#lastHostBytes = Buffer.from(host, 'latin1');
    return host;
  }
}

function isSame(bytes: Buffer, start: number, end: number, other: Buffer): boolean {
  if (end - start !== other.length || end === start) return false;
  for (let i = 0; i < other.length; i += 1) if (bytes[start + i] !== other[i]) return false;
  return true;
}

interface RequestLine {
  readonly bytes: Buffer;
  readonly start: number;
  readonly text: string;
  readonly method: string;
  readonly target: string;
  readonly fieldsStart: number;
  readonly version: 0 | 1;
}

const NO_VIA: readonly string[] = [];

class RequestHeadText extends HeadText implements ParsedRequestHead {
  selected: readonly string[];
  selectedAt: readonly number[];
  method = '';
  target = '';
  authority: string | undefined;
  minorVersion: 0 | 1 = 1;
  contentLength: number | undefined;
  isChunked = false;
  wantsClose = false;
  upgrade: string | undefined;
  expectsContinue = false;
  host: string | undefined;
  hasForwardedFor = false;
  hasForwardedProto = false;
  via = NO_VIA;

  constructor(text: string, selected: readonly string[], selectedAt: readonly number[]) {
    super(text);
    this.selected = selected;
    this.selectedAt = selectedAt;
  }

  /** Fields that `Connection` names belong to that connection too (RFC 9110 §7.6.1). */
  dropNamed(named: ReadonlySet<string>): void {
    this.cuts = cutsWith(this, named);
    const { selected, selectedAt } = this;
    const isKept = selectedAt.map((_, i) => !named.has(selected[2 * i] ?? ''));
    this.selected = selected.filter((_, i) => isKept[i >> 1]);
    this.selectedAt = selectedAt.filter((_, i) => isKept[i]);
  }
}

/** `uri-host [ ":" port ]` (RFC 9110 §7.2): no user info, no path, no list, and not empty. */
const HOST = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]+)(?::\d{0,5})?$/;

/** Whether a text can be the value of `Host`. */
export function isHostValue(text: string): boolean {
  return HOST.test(text);
}

/** Whether a text can be a target in origin-form, or `*`. */
export function isOriginForm(text: string): boolean {
  return ORIGIN_FORM.test(text);
}

/** What {@link TARGET} lets through. */
const ORIGIN_FORM = /^(?:\*|\/[!"$-~\x80-\xff]*)$/;

/** ` HTTP/1.1` and its line end. */
const VERSION_LINE_BYTES = 11;

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
  const isLine = bytes[from + 6] === 0x2e && bytes[from + 8] === CR && bytes[from + 9] === LF;
  if (!areDigits || !isLine) return INVALID_LINE;
  if (major !== 1 || minor > 1) return UNKNOWN_VERSION;
  return minor as 0 | 1;
}

/** Takes the whole line of a field out of what is passed on. */
function cutLine(
  cuts: number[],
  scan: FieldScan,
  index: number,
  start: number,
  text: string,
): void {
  const from = scan.nameStart(index) - start;
  const to = text.indexOf('\n', scan.valueEnd(index) - start) + 1;
  if (cuts.at(-1) === from) cuts[cuts.length - 1] = to;
  else cuts.push(from, to);
}

/** The lines that are cut already, and those of these names, in order. */
function cutsWith(
  { text, fieldsStart, fieldsEnd, cuts }: CutText,
  named: ReadonlySet<string>,
): number[] {
  const all: number[] = [];
  let cut = 0;
  for (let at = fieldsStart; at < fieldsEnd;) {
    const next = text.indexOf('\n', at) + 1;
    while (cut < cuts.length && (cuts[cut + 1] ?? 0) <= at) cut += 2;
    const isCut = cut < cuts.length && (cuts[cut] ?? 0) <= at;
    const name = text.slice(at, text.indexOf(':', at)).toLowerCase();
    if (isCut || named.has(name)) {
      if (all.at(-1) === at) all[all.length - 1] = next;
      else all.push(at, next);
    }
    at = next;
  }
  return all;
}

/**
 * What of `Upgrade` asks for a tunnel: `h2c` and `HTTP/…` are other versions of what is spoken here
 * already, and may be ignored (RFC 9110 §7.8).
 */
function tunnelProtocols(upgrade: string): string | undefined {
  if (upgrade === 'websocket') return upgrade;
  const wanted = upgrade
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol !== '' && !/^(?:h2c|http\/)/i.test(protocol));
  return wanted.length === 0 ? undefined : wanted.join(', ');
}

const ABSOLUTE_FORM = /^(https?):\/\/([^/?]*)(.*)$/is;
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: ':80', https: ':443' };

interface EffectiveTarget {
  readonly target: string;
  readonly authority: string | undefined;
}

/**
 * The target in origin-form or `*` (RFC 9112 §3.2). The absolute-form, which a server must accept too,
 * has to name the same host as `Host`; anything else is undefined.
 */
function effectiveTarget(
  method: string,
  target: string,
  host: string | undefined,
): EffectiveTarget | undefined {
  if (method === 'CONNECT') return undefined;
  if (target.startsWith('/')) return { target, authority: undefined };
  if (target === '*') return method === 'OPTIONS' ? { target, authority: undefined } : undefined;
  const [, scheme = '', authority = '', rest = ''] = ABSOLUTE_FORM.exec(target) ?? [];
  if (authority === '' || !HOST.test(authority)) return undefined;
  const named = withoutDefaultPort(authority, scheme);
  if (host !== undefined && withoutDefaultPort(host, scheme) !== named) return undefined;
  if (rest === '' && method === 'OPTIONS') return { target: '*', authority };
  return { target: rest.startsWith('/') ? rest : `/${rest}`, authority };
}

function withoutDefaultPort(authority: string, scheme: string): string {
  const lower = authority.toLowerCase();
  const port = DEFAULT_PORTS[scheme.toLowerCase()] ?? '';
  if (lower.endsWith(port)) return lower.slice(0, -port.length);
  return lower.endsWith(':') ? lower.slice(0, -1) : lower;
}

function refused(status: MalformedStatus, reason: string): MalformedRequest {
  return { status, reason };
}

const INVALID_LINE = refused(400, 'the request line is not one of HTTP/1.1');
const UNKNOWN_VERSION = refused(505, 'the version is neither HTTP/1.1 nor HTTP/1.0');
const TARGET_TOO_LONG = refused(414, 'the target is longer than the limit');
const INVALID_TARGET = refused(400, 'the target is not in origin-form and not of this host');
const NO_CONNECT = refused(501, 'CONNECT asks for a tunnel, which is not offered');
const INVALID_FIELD = refused(400, 'a field line is malformed');
const HEAD_TOO_LONG = refused(431, 'the head is longer than the limit');
const TOO_MANY = refused(431, 'the head has more fields than the limit');
const INVALID_HOST = refused(400, 'Host is malformed or there are two');
const NO_HOST = refused(400, 'Host is missing');
const INVALID_LENGTH = refused(400, 'Content-Length is not one number');
const UNKNOWN_CODING = refused(400, 'Transfer-Encoding is not just chunked');
const UNKNOWN_EXPECTATION = refused(417, 'Expect asks for more than 100-continue');
const CONFLICTING_FRAMING = refused(400, 'Transfer-Encoding beside Content-Length or in HTTP/1.0');
const INVALID_CONNECTION = refused(400, 'Connection names a field that belongs to the request');
export const INVALID_BODY = refused(400, 'the body is not framed as its head says');
export const HEAD_TIMEOUT = refused(408, 'the head did not arrive in time');
export const HEAD_TOO_SLOW = refused(
  503,
  'the head is not here yet, and there is no memory to wait',
);
export const BODY_TIMEOUT = refused(408, 'the body stopped arriving');
