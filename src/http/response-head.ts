/** The head of a response, as the parser has read it, and how it frames the body. */
import type { Framing } from './body-reader.ts';
import { passedFields, readFields, withoutNamedLines } from './head-text.ts';
import type { CutText, Unfinished } from './head-text.ts';

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
