/**
 * Field lines, found in one pass over the bytes: where each name and value is, and which field it is. Used
 * for requests, responses and trailers alike.
 */
import { COLON, CR, isText, LF, SPACE, TAB, TOKEN, VALUE } from './head-text.ts';
import { MAX_CONTENT_LENGTH_DIGITS } from './limits.ts';

/** The fields that the engine acts on. */
export const FIELD = {
  other: 0,
  te: 1,
  host: 2,
  expect: 3,
  upgrade: 4,
  trailer: 5,
  connection: 6,
  keepAlive: 7,
  contentLength: 8,
  forwardedFor: 9,
  proxyConnection: 10,
  transferEncoding: 11,
  forwardedProto: 12,
  via: 13,
} as const;
export type FieldCode = (typeof FIELD)[keyof typeof FIELD];

const NAMES: readonly (readonly [name: string, code: FieldCode])[] = [
  ['te', FIELD.te],
  ['via', FIELD.via],
  ['host', FIELD.host],
  ['expect', FIELD.expect],
  ['upgrade', FIELD.upgrade],
  ['trailer', FIELD.trailer],
  ['connection', FIELD.connection],
  ['keep-alive', FIELD.keepAlive],
  ['content-length', FIELD.contentLength],
  ['x-forwarded-for', FIELD.forwardedFor],
  ['proxy-connection', FIELD.proxyConnection],
  ['transfer-encoding', FIELD.transferEncoding],
  ['x-forwarded-proto', FIELD.forwardedProto],
];

interface KnownName {
  readonly bytes: Uint8Array;
  readonly code: number;
}

/** Codes from here on are of names that the engine does not act on. */
export const FIRST_SELECTED_CODE = 16;
const MAX_SELECTED = 255 - FIRST_SELECTED_CODE;

/**
 * The names that a scan recognizes: those that the engine acts on, and those that its user has selected.
 * Most fields are neither, and the scan only verifies them.
 */
export class FieldNames {
  /** By the length of the name; most lengths have no entry. */
  readonly #byLength: (KnownName[] | undefined)[] = new Array<KnownName[] | undefined>(64);
  readonly #selected: (string | undefined)[] = new Array<string | undefined>(256);

  /** `selected`: names in lower case; throws if there are too many. */
  constructor(selected: Iterable<string> = []) {
    for (const [name, code] of NAMES) this.#add(name, code);
    let next = FIRST_SELECTED_CODE;
    for (const name of new Set(selected)) {
      const [, known] = NAMES.find(([other]) => other === name) ?? [];
      if (next - FIRST_SELECTED_CODE > MAX_SELECTED) throw new Error('too many names of fields');
      const code = known ?? next++;
      if (known === undefined) this.#add(name, code);
      this.#selected[code] = name;
    }
  }

  #add(name: string, code: number): void {
    (this.#byLength[name.length] ??= []).push({ bytes: Buffer.from(name), code });
  }

  codeOf(bytes: Uint8Array, start: number, end: number): number {
    const known = this.#byLength[end - start];
    if (known === undefined) return FIELD.other;
    for (const { bytes: name, code } of known) if (isText(bytes, start, name)) return code;
    return FIELD.other;
  }

  /** The name, in lower case, of a code whose fields were asked for. */
  selectedName(code: number): string | undefined {
    return this.#selected[code];
  }
}

const ENGINE_NAMES = new FieldNames();

/** What {@link FieldScan.scan} returns besides the position behind the empty line. */
export const INCOMPLETE = 0;
export const MALFORMED = -1;
export const TOO_MANY_FIELDS = -2;

/** Numbers of one field in `spans`. */
const SPAN = 4;

export interface ScanRules {
  readonly maxFields: number;
  /** As responses are read: a blank before the colon is accepted and later removed (RFC 9112 §5.1). */
  readonly allowsBlankBeforeColon: boolean;
  /** Fields with names that are none of those of the scan are verified and not kept. */
  readonly skipsUnknown?: boolean;
}

export class FieldScan {
  readonly #names: FieldNames;
  /** Of each field that is kept: where its name and its value begin and end, the value without blanks around it. */
  spans = new Int32Array(SPAN * 32);
  codes = new Uint8Array(32);
  count = 0;
  /** Some line has a blank before its colon. */
  hasBlankBeforeColon = false;

  constructor(names: FieldNames = ENGINE_NAMES) {
    this.#names = names;
  }

  nameStart(index: number): number {
    return this.spans[index * SPAN] ?? 0;
  }

  nameEnd(index: number): number {
    return this.spans[index * SPAN + 1] ?? 0;
  }

  valueStart(index: number): number {
    return this.spans[index * SPAN + 2] ?? 0;
  }

  valueEnd(index: number): number {
    return this.spans[index * SPAN + 3] ?? 0;
  }

  /**
   * The position behind the empty line that ends the fields from `from` on; or one of the codes above.
   * HOT PATH: reads each byte of a head, so it makes no call for a line with an unknown name.
   */
  scan(bytes: Uint8Array, from: number, end: number, rules: ScanRules): number {
    const { maxFields, allowsBlankBeforeColon, skipsUnknown = false } = rules;
    this.count = 0;
    this.hasBlankBeforeColon = false;
    let at = from;
    for (let fieldCount = 1; ; fieldCount += 1) {
      if (at >= end) return INCOMPLETE;
      if (bytes[at] === CR) {
        if (at + 1 >= end) return INCOMPLETE;
        return bytes[at + 1] === LF ? at + 2 : MALFORMED;
      }
      const nameStart = at;
      while (at < end && TOKEN[bytes[at] ?? 0] === 1) at += 1;
      const nameEnd = at;
      let hasBlank = false;
      if (allowsBlankBeforeColon && at < end && isBlank(bytes[at]) && nameEnd > nameStart) {
        while (at < end && isBlank(bytes[at])) at += 1;
        hasBlank = true;
        this.hasBlankBeforeColon = true;
      }
      if (at >= end) return INCOMPLETE;
      if (bytes[at] !== COLON || nameEnd === nameStart) return MALFORMED;
      at += 1;
      while (at < end && isBlank(bytes[at])) at += 1;
      const valueStart = at;
      while (at < end && VALUE[bytes[at] ?? 0] === 1) at += 1;
      if (at >= end) return INCOMPLETE;
      if (bytes[at] !== CR) return MALFORMED;
      if (at + 1 >= end) return INCOMPLETE;
      if (bytes[at + 1] !== LF) return MALFORMED;
      if (fieldCount > maxFields) return TOO_MANY_FIELDS;
      const code = this.#names.codeOf(bytes, nameStart, nameEnd);
      if (code !== FIELD.other || hasBlank || !skipsUnknown) {
        this.#add(code, nameStart, nameEnd, valueStart, endOfValue(bytes, valueStart, at));
      }
      at += 2;
    }
  }

  #add(
    code: number,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    const index = this.count;
    if (index === this.codes.length) this.#grow();
    const { spans } = this;
    const first = index * SPAN;
    spans[first] = nameStart;
    spans[first + 1] = nameEnd;
    spans[first + 2] = valueStart;
    spans[first + 3] = valueEnd;
    this.codes[index] = code;
    this.count = index + 1;
  }

  #grow(): void {
    const spans = new Int32Array(this.spans.length * 2);
    spans.set(this.spans);
    this.spans = spans;
    const codes = new Uint8Array(this.codes.length * 2);
    codes.set(this.codes);
    this.codes = codes;
  }
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB;
}

function endOfValue(bytes: Uint8Array, start: number, end: number): number {
  let at = end;
  while (at > start && isBlank(bytes[at - 1])) at -= 1;
  return at;
}

/** Digits only, and so few that every such number is exact (RFC 9112 §6.3). -1 for anything else. */
export function parseContentLength(value: string): number {
  if (value === '' || value.length > MAX_CONTENT_LENGTH_DIGITS) return -1;
  let length = 0;
  for (let at = 0; at < value.length; at += 1) {
    const digit = value.charCodeAt(at) - ZERO;
    if (digit < 0 || digit > 9) return -1;
    length = length * 10 + digit;
  }
  return length;
}

const ZERO = 0x30;

/**
 * Whether a `Transfer-Encoding` is just `chunked`. With a tab behind it, llhttp takes it for another
 * coding, so that such a body would end elsewhere for an app or a client.
 */
export function isChunkedCoding(text: string, valueStart: number, valueEnd: number): boolean {
  if (text.slice(valueStart, valueEnd).toLowerCase() !== 'chunked') return false;
  return !text.slice(valueEnd, text.indexOf('\r', valueEnd)).includes('\t');
}

/** What the lines of `Connection` say, as one list (RFC 9110 §7.6.1). */
export interface ConnectionOptions {
  readonly close: boolean;
  readonly keepAlive: boolean;
  readonly upgrade: boolean;
  /** Names of other fields, in lower case. */
  readonly names: readonly string[];
}

const CLOSE: ConnectionOptions = { close: true, keepAlive: false, upgrade: false, names: [] };
const KEEP_ALIVE: ConnectionOptions = { close: false, keepAlive: true, upgrade: false, names: [] };
export const NO_CONNECTION_OPTIONS: ConnectionOptions = {
  ...{ close: false, keepAlive: false, upgrade: false },
  names: [],
};
const TOKEN_TEXT = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Text that is no token is ignored. */
export function parseConnection(value: string): ConnectionOptions {
  // The value of nearly every message.
  if (value === 'keep-alive' || value === 'Keep-Alive') return KEEP_ALIVE;
  if (value === 'close') return CLOSE;
  const tokens = value.split(',').map((token) => withoutBlanks(token).toLowerCase());
  const named = tokens.filter((token) => TOKEN_TEXT.test(token));
  const known = new Set(['close', 'keep-alive', 'upgrade']);
  return {
    close: named.includes('close'),
    keepAlive: named.includes('keep-alive'),
    upgrade: named.includes('upgrade'),
    names: named.filter((token) => !known.has(token)),
  };
}

/**
 * Without the blanks around it; what `trim()` takes away beyond that is part of a token. A regular
 * expression would look at a run of blanks once from each of them: seconds for one head.
 */
function withoutBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text.charCodeAt(start))) start += 1;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1;
  return text.slice(start, end);
}
