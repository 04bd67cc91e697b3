/** The head of a response, as the parser has read it, and how it frames the body. */
import type { Framing } from './body-reader.ts';
import {
  passedFields,
  readFields,
  withoutNamedLines,
  type CutText,
  type Unfinished,
  formatFields,
  outgoingFields,
} from './head-text.ts';
import { STATUS_CODES } from './node-http.ts';
import type { ParsedRequestHead } from './request-head.ts';

/** Names that a response's `Connection` can't remove. */
const KEPT =
  /^(?:set-cookie|content-.*|date|location|fly-.*|x-fly-affinity-.*|mcp-session-id|x-session-id|www-authenticate|vary|cache-control)$/;

/** Flat, and with all its fields from the start: each response has one, and V8 reads it fastest so. */
export class ParsedResponseHead implements CutText {
  readonly text: string;
  readonly statusCode: number;
  readonly minorVersion: 0 | 1;
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  readonly cuts: readonly number[] = [];
  /** Name, value, name, value: the fields of `selectedNames`, if they are passed on; names in lower case. */
  readonly selected: readonly string[] = [];
  /** Undefined without the field. */
  readonly contentLength: number | undefined = undefined;
  readonly isChunked: boolean = false;
  /** The value of `Connection`; the lines of several as one list. */
  readonly connection: string | undefined = undefined;
  /** The upstream says that the connection may be used again. */
  readonly isPersistent: boolean = false;
  /** The value of `Keep-Alive`. */
  readonly keepAlive: string | undefined = undefined;
  /** `Trailer` announces what may follow chunks. */
  readonly announcesTrailers: boolean = false;
  /** The protocol that the upstream switches to. */
  readonly upgrade: string | undefined = undefined;
  #rawHeaders: readonly string[] | undefined = undefined;

  constructor(text: string, statusCode: number, minorVersion: 0 | 1, fieldsStart: number) {
    this.text = text;
    this.statusCode = statusCode;
    this.minorVersion = minorVersion;
    this.fieldsStart = fieldsStart;
    this.fieldsEnd = text.length - 2;
  }

  /** Name, value, name, value: the fields that are passed on, in order and case. Built at the first access. */
  get rawHeaders(): readonly string[] {
    return (this.#rawHeaders ??= readFields(passedFields(this)));
  }

  /** The status line without its version, and its line end. */
  get statusLine(): string {
    return this.text.slice('HTTP/1.1'.length, this.fieldsStart);
  }

  /** Cuts the fields that `Connection` names: they belong to that connection too (RFC 9110 §7.6.1). */
  cutNamed(names: readonly string[]): void {
    const named = new Set(names.filter((name) => !KEPT.test(name)));
    if (named.size === 0) return;
    const head = this as unknown as Unfinished<ParsedResponseHead>;
    head.cuts = withoutNamedLines(this, named);
    head.selected = this.selected.filter((_, i, all) => !named.has(all[i - (i % 2)] ?? ''));
  }
}

/** Whether a response has no body at all, whatever its head says (RFC 9112 §6.3). */
export function hasNoBody(method: string, statusCode: number): boolean {
  return method === 'HEAD' || statusCode === 204 || statusCode === 304;
}

/** RFC 9112 §6.3. */
export function framingOf(head: ParsedResponseHead, method: string): Framing {
  if (hasNoBody(method, head.statusCode)) return 'none';
  if (head.isChunked) return 'chunked';
  return head.contentLength === undefined ? 'until-close' : 'length';
}

/* How a response goes out: the form of its body, and the fields that say so. */

/** As it came, in chunks of ours, or as it is until the connection closes. */
export type BodyForm = 'as-it-came' | 'chunks' | 'plain';

/** The fields that go out; undefined: as they came. */
type Fields = readonly string[] | undefined;

/** There is a body, and its length is not known. */
export function isStreamed(
  head: ParsedResponseHead,
  fields: Fields,
  { method }: ParsedRequestHead,
): boolean {
  if (hasNoBody(method, head.statusCode)) return false;
  if (head.contentLength === undefined) return true;
  return fields !== undefined && !hasField(fields, 'content-length');
}

export function formOf(
  head: ParsedResponseHead,
  isStream: boolean,
  { minorVersion }: ParsedRequestHead,
  isInspected: boolean,
): BodyForm {
  if (!isStream) return 'as-it-came';
  // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
  if (minorVersion === 0) return 'plain';
  return head.isChunked && !isInspected ? 'as-it-came' : 'chunks';
}

/** The head, without the fields of the connection and without the empty line. */
export function formatResponseHead(
  head: ParsedResponseHead,
  fields: Fields,
  isStream: boolean,
  { method, minorVersion }: ParsedRequestHead,
): string {
  const isBodiless = hasNoBody(method, head.statusCode);
  // A response to HEAD says what that to GET would be.
  const isHeadOfChunks = isBodiless && head.isChunked && head.statusCode !== 204;
  const isChunked = minorVersion === 1 && (isStream || isHeadOfChunks);
  const framing = isChunked ? 'Transfer-Encoding: chunked\r\n' : '';
  return `HTTP/1.1${head.statusLine}${fieldsOf(head, fields, isChunked && !isBodiless)}${framing}`;
}

/** The whole head of a 101. */
export function formatUpgrade(head: ParsedResponseHead, fields: Fields): string {
  const upgrade = `Connection: Upgrade\r\nUpgrade: ${head.upgrade ?? ''}\r\n`;
  return `HTTP/1.1${head.statusLine}${outgoingFields(head, fields)}${upgrade}\r\n`;
}

/** The whole head of another interim response. */
export function formatInterim(head: ParsedResponseHead, fields: readonly string[]): string {
  return `HTTP/1.1${head.statusLine}${formatFields(fields)}\r\n`;
}

/** Only chunks have trailers, so nothing else announces them. */
function fieldsOf(head: ParsedResponseHead, fields: Fields, mayHaveTrailers: boolean): string {
  if (!head.announcesTrailers || mayHaveTrailers) return outgoingFields(head, fields);
  const all = fields ?? head.rawHeaders;
  return formatFields(all.filter((_, i) => !isTrailer(all[i - (i % 2)])));
}

function isTrailer(name: string | undefined): boolean {
  return name?.toLowerCase() === 'trailer';
}

function hasField(rawHeaders: readonly string[], lowerName: string): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === lowerName.length && name.toLowerCase() === lowerName) return true;
  }
  return false;
}

/* A local response: the sidecar's own. */

export interface LocalResponse {
  readonly status: number;
  /** Name, value, name, value; without those of framing. */
  readonly headers: readonly string[];
  readonly body: string;
}

/** Its head, without the fields of the connection and without the empty line. */
export function formatLocalHead({ status, headers, body }: LocalResponse): string {
  const statusLine = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  return `${statusLine}${formatFields(headers)}Content-Length: ${Buffer.byteLength(body)}\r\n`;
}

/* The interim responses of the sidecar itself. */

export const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';

/**
 * The request is in progress (RFC 2518 §10.1). If the client is gone, its kernel resets the connection. Not a
 * 100 (Continue), which some clients treat as an error if they have not asked for it.
 */
export const PROCESSING = 'HTTP/1.1 102 Processing\r\n\r\n';

/** One character a byte, as everything else that is written. */
export function latin1OfUtf8(text: string): string {
  return Buffer.from(text).toString('latin1');
}
