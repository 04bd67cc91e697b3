/** The head of a request: as the parser has read it, and as it goes out to an upstream. */
import type { Framing } from './body-reader.ts';
import {
  outgoingFields,
  passedFields,
  readFields,
  withoutNamedLines,
  type CutText,
  type Unfinished,
} from './head-text.ts';

const NO_VIA: readonly string[] = [];

/** Flat, and with all its fields from the start: each request has one, and V8 reads it fastest so. */
export class ParsedRequestHead implements CutText {
  readonly text: string;
  readonly method: string;
  /** In origin-form, or `*` (RFC 9112 §3.2); of an absolute-form the rest. */
  readonly target: string;
  readonly minorVersion: 0 | 1;
  readonly fieldsStart: number;
  readonly fieldsEnd: number;
  /** The lines of fields that are not passed on. */
  readonly cuts: readonly number[] = [];
  /** Name, value, name, value: the fields of `selectedNames`, if they are passed on; names in lower case. */
  readonly selected: readonly string[] = [];
  /** Where in `text` each of their values begins. */
  readonly selectedAt: readonly number[] = [];
  /** Undefined without the field. */
  readonly contentLength: number | undefined = undefined;
  readonly isChunked: boolean = false;
  /** The value of `Connection`; the lines of several as one list. */
  readonly connection: string | undefined = undefined;
  /** The client wants the connection closed after the response. */
  readonly wantsClose: boolean = false;
  /** The protocols to switch to: the value of `Upgrade`, less what is no tunnel. */
  readonly upgrade: string | undefined = undefined;
  readonly expectsContinue: boolean = false;
  /** The value of `Host`. */
  readonly host: string | undefined = undefined;
  /** The authority of a target in absolute-form. */
  readonly authority: string | undefined = undefined;
  readonly hasForwardedFor: boolean = false;
  readonly hasForwardedProto: boolean = false;
  /** The values of `Via`, in order. */
  readonly via: readonly string[] = NO_VIA;
  #rawHeaders: readonly string[] | undefined = undefined;

  constructor(
    text: string,
    method: string,
    target: string,
    minorVersion: 0 | 1,
    fieldsStart: number,
  ) {
    this.text = text;
    this.method = method;
    this.target = target;
    this.minorVersion = minorVersion;
    this.fieldsStart = fieldsStart;
    this.fieldsEnd = text.length - 2;
  }

  /**
   * Name, value, name, value: the fields that are passed on, in order and case. `Transfer-Encoding` and
   * `Expect` are not among them: the sender of the body says how it is framed. Built at the first access.
   */
  get rawHeaders(): readonly string[] {
    return (this.#rawHeaders ??= readFields(passedFields(this)));
  }

  get hasBody(): boolean {
    return this.isChunked || (this.contentLength ?? 0) > 0;
  }

  /** Cuts the fields that `Connection` names: they belong to that connection too (RFC 9110 §7.6.1). */
  cutNamed(names: readonly string[]): void {
    const head = this as unknown as Unfinished<ParsedRequestHead>;
    const named = new Set(names);
    head.cuts = withoutNamedLines(this, named);
    const { selected, selectedAt } = this;
    const isKept = selectedAt.map((_, i) => !named.has(selected[2 * i] ?? ''));
    head.selected = selected.filter((_, i) => isKept[i >> 1]);
    head.selectedAt = selectedAt.filter((_, i) => isKept[i]);
  }
}

/** RFC 9112 §6.3. */
export function requestFramingOf({ isChunked, contentLength }: ParsedRequestHead): Framing {
  if (isChunked) return 'chunked';
  return (contentLength ?? 0) > 0 ? 'length' : 'none';
}

const UNREADABLE = createUnreadable('-');
/** Its response has no body in any case. */
const UNREADABLE_HEAD = createUnreadable('HEAD');

const HEAD_METHOD = /^(?:\r\n){0,2}HEAD /;

/** Stands for a head that can't be parsed, which begins with these bytes. */
export function unreadableHead(bytes: Buffer | undefined): ParsedRequestHead {
  const isHead = bytes !== undefined && HEAD_METHOD.test(bytes.toString('latin1', 0, 16));
  return isHead ? UNREADABLE_HEAD : UNREADABLE;
}

function createUnreadable(method: string): ParsedRequestHead {
  const head = new ParsedRequestHead('\r\n', method, '*', 1, 0);
  (head as unknown as Unfinished<ParsedRequestHead>).wantsClose = true;
  return head;
}

/** What changes of a request on its way. */
export interface RequestChanges {
  readonly target: string;
  /** The fields that go out; undefined, or the head's very array, if its own pass as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** In place of the head's own `cuts`. */
  readonly cuts?: readonly number[] | undefined;
  /** More field lines, each with its line end. */
  readonly added: string;
  /** Whether to ask the upstream for the protocol that the client asks for. */
  readonly asksForUpgrade: boolean;
}

/** The head for an upstream, which is always one of HTTP/1.1. */
export function formatRequest(head: ParsedRequestHead, changes: RequestChanges): string {
  const { target, rawHeaders, cuts, added, asksForUpgrade } = changes;
  const fields = outgoingFields(head, rawHeaders, cuts);
  let framing = head.isChunked ? 'Transfer-Encoding: chunked\r\n' : '';
  if (asksForUpgrade && head.upgrade !== undefined) {
    framing += `Connection: Upgrade\r\nUpgrade: ${head.upgrade}\r\n`;
  }
  return `${head.method} ${target} HTTP/1.1\r\n${fields}${added}${framing}\r\n`;
}
