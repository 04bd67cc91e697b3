/**
 * How long an answer is, and whether its connection may serve another one: RFC 9112 §6.3, §9.3,
 * read strictly. What two parties could read in two ways is refused.
 */
import { isNamed } from './characters.ts';
import { parseContentLength } from './content-length.ts';
import { MalformedAnswer } from './malformed.ts';
import type { StatusLine } from './status-line.ts';

export type BodyKind = 'none' | 'length' | 'chunked' | 'until-close';

export interface Framing {
  readonly body: BodyKind;
  /** Of a body of kind `length`, in bytes. */
  readonly length: number;
  readonly isPersistent: boolean;
  /** The value of `Keep-Alive`. */
  readonly keepAlive: string | undefined;
}

/** What there is in a head that framing depends on. */
interface FramingFields {
  length: number | undefined;
  isChunked: boolean;
  connection: string | undefined;
  keepAlive: string | undefined;
}

export function framingOf(
  method: string,
  { statusCode, minorVersion }: StatusLine,
  rawHeaders: readonly string[],
): Framing {
  const fields = framingFields(rawHeaders);
  if (fields.isChunked && (fields.length !== undefined || minorVersion === 0)) {
    throw new MalformedAnswer('Transfer-Encoding together with Content-Length, or in HTTP/1.0');
  }
  const body = bodyKind(method, statusCode, fields);
  const isPersistent = body !== 'until-close' && allowsReuse(minorVersion, fields.connection);
  return { body, length: fields.length ?? 0, isPersistent, keepAlive: fields.keepAlive };
}

function bodyKind(method: string, statusCode: number, fields: FramingFields): BodyKind {
  if (method === 'HEAD' || statusCode < 200 || statusCode === 204 || statusCode === 304) {
    return 'none';
  }
  if (fields.isChunked) return 'chunked';
  if (fields.length === undefined) return 'until-close';
  return fields.length === 0 ? 'none' : 'length';
}

function framingFields(raw: readonly string[]): FramingFields {
  const fields: FramingFields = {
    length: undefined,
    isChunked: false,
    connection: undefined,
    keepAlive: undefined,
  };
  for (let i = 0; i + 1 < raw.length; i += 2) readField(fields, raw[i] ?? '', raw[i + 1] ?? '');
  return fields;
}

/** The length of its name rules most fields out. */
function readField(fields: FramingFields, name: string, value: string): void {
  switch (name.length) {
    case 'connection'.length:
      if (isNamed(name, 'connection')) addConnection(fields, value);
      else if (isNamed(name, 'keep-alive')) fields.keepAlive = value;
      break;
    case 'content-length'.length:
      if (isNamed(name, 'content-length')) addLength(fields, value);
      break;
    case 'transfer-encoding'.length:
      if (isNamed(name, 'transfer-encoding')) addCoding(fields, value);
      break;
  }
}

/** Several lines are one list (RFC 9110 §5.3). */
function addConnection(fields: FramingFields, value: string): void {
  fields.connection = fields.connection === undefined ? value : `${fields.connection},${value}`;
}

/** Equal ones could be taken as one; but who sends two of them is confused about its own answer. */
function addLength(fields: FramingFields, value: string): void {
  if (fields.length !== undefined) throw new MalformedAnswer('Content-Length stands there twice');
  fields.length = parseContentLength(value);
  if (fields.length === undefined) throw new MalformedAnswer('Content-Length is not a number');
}

/** Any other coding we can't undo, and as it was not asked for it can't be passed on. */
function addCoding(fields: FramingFields, value: string): void {
  if (fields.isChunked || !isNamed(value, 'chunked')) {
    throw new MalformedAnswer('Transfer-Encoding is not just chunked');
  }
  fields.isChunked = true;
}

function allowsReuse(minorVersion: 0 | 1, connection: string | undefined): boolean {
  if (connection === undefined) return minorVersion === 1;
  if (connection === 'keep-alive') return true;
  const tokens = connection.split(',').map((token) => token.trim().toLowerCase());
  if (tokens.includes('close')) return false;
  return minorVersion === 1 || tokens.includes('keep-alive');
}
