/** How a response goes out: the form of its body, and the fields that say so. */
import { formatFields, outgoingFields } from './head-text.ts';
import type { ParsedRequestHead } from './request-head.ts';
import { hasNoBody, type ParsedResponseHead } from './response-head.ts';

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
