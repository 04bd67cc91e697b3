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

/* The target of a request and the host that it is for (RFC 9112 §3.2). */

/** `uri-host [ ":" port ]` (RFC 9110 §7.2): no user info, no path, no list, and not empty. */
const HOST = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]+)(?::\d{0,5})?$/;

/** Whether a text can be the value of `Host`. */
export function isHostValue(text: string): boolean {
  return HOST.test(text);
}

/** The bytes of the table `TARGET`, behind a slash. */
const ORIGIN_FORM = /^(?:\*|\/[!"$-~\x80-\xff]*)$/;

/** Whether a text can be a target in origin-form, or `*`. */
export function isOriginForm(text: string): boolean {
  return ORIGIN_FORM.test(text);
}

const ABSOLUTE_FORM = /^(https?):\/\/([^/?]*)(.*)$/is;
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: ':80', https: ':443' };

interface EffectiveTarget {
  readonly target: string;
  readonly authority: string | undefined;
}

/**
 * The target in origin-form, or `*`, of a target that is not in origin-form. A server must accept the
 * absolute-form too, which has to name the same host as `Host`. Undefined for any other target.
 */
export function effectiveTarget(
  method: string,
  target: string,
  host: string | undefined,
): EffectiveTarget | undefined {
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

/**
 * The protocols in `Upgrade` that ask for a tunnel: `h2c` and `HTTP/…` are other versions of the protocol
 * that is spoken here already, and may be ignored (RFC 9110 §7.8).
 */
export function tunnelProtocols(upgrade: string): string | undefined {
  if (upgrade === 'websocket') return upgrade;
  const wanted = upgrade
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol !== '' && !/^(?:h2c|http\/)/i.test(protocol));
  return wanted.length === 0 ? undefined : wanted.join(', ');
}

/* Why the engine rejects a request, and with which status. The README of this folder lists the rules. */

export type MalformedStatus = 400 | 408 | 414 | 417 | 431 | 501 | 503 | 505;

/** `reason` is a constant sentence for the log and the error response. */
export interface MalformedRequest {
  readonly status: MalformedStatus;
  readonly reason: string;
}

function malformed(status: MalformedStatus, reason: string): MalformedRequest {
  return { status, reason };
}

export const INVALID_LINE = malformed(400, 'the request line is not one of HTTP/1.1');
export const UNKNOWN_VERSION = malformed(505, 'the version is neither HTTP/1.1 nor HTTP/1.0');
export const TARGET_TOO_LONG = malformed(414, 'the target is longer than the limit');
export const INVALID_TARGET = malformed(
  400,
  'the target is not in origin-form and not of this host',
);
export const NO_CONNECT = malformed(501, 'CONNECT is not supported');
export const INVALID_FIELD = malformed(400, 'a field line is malformed');
export const HEAD_TOO_LONG = malformed(431, 'the head is longer than the limit');
export const TOO_MANY_LINES = malformed(431, 'the head has more fields than the limit');
export const INVALID_HOST = malformed(400, 'Host is malformed or there are two');
export const NO_HOST = malformed(400, 'Host is missing');
export const INVALID_LENGTH = malformed(400, 'Content-Length is not one number');
export const UNKNOWN_CODING = malformed(400, 'Transfer-Encoding is not just chunked');
export const UNKNOWN_EXPECTATION = malformed(417, 'Expect asks for more than 100-continue');
export const CONFLICTING_FRAMING = malformed(
  400,
  'Transfer-Encoding beside Content-Length or in HTTP/1.0',
);
export const INVALID_CONNECTION = malformed(
  400,
  'Connection names a field that belongs to the request',
);
export const INVALID_BODY = malformed(400, 'the body is not framed as its head says');
export const HEAD_TIMEOUT = malformed(408, 'the head did not arrive in time');
export const BODY_TIMEOUT = malformed(408, 'the body stopped arriving');
export const NO_MEMORY_FOR_HEAD = malformed(
  503,
  'the head is incomplete, and there is no memory to wait for it',
);
