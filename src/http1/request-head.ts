/**
 * The head of a request as it goes out: headers in order and case as given, `Connection` added. The
 * edge's parser has seen all of it before; it is checked again, as a line break in a value would be
 * a second request on the app's connection.
 */
import type { Socket } from 'node:net';
import type { UpstreamRequest } from '../proxy/upstream.ts';
import { isFieldValue, isNamed, isTarget, isToken } from './characters.ts';
import { parseContentLength } from './content-length.ts';
import { MalformedRequest } from './malformed.ts';

export interface RequestHead {
  /** Latin-1, with its empty line. */
  readonly text: string;
  /** Of the body, in bytes; undefined: it goes out in chunks. */
  readonly bodyLength: number | undefined;
}

/** Throws MalformedRequest. */
export function formatRequestHead(request: UpstreamRequest): RequestHead {
  const { method, path, headers, body, upgrade } = request;
  // The answer to CONNECT is framed by rules of its own, and nothing here needs one.
  if (!isToken(method) || method === 'CONNECT') throw new MalformedRequest('the method is not one');
  if (!isTarget(path)) throw new MalformedRequest('the target has a space or control character');
  let text = `${method} ${path} HTTP/1.1\r\n`;
  let declared: number | undefined;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? '';
    const value = headers[i + 1] ?? '';
    if (isContentLength(name, value)) declared = readLength(declared, value);
    text += `${name}: ${value}\r\n`;
  }
  const bodyLength = lengthOf(body, declared);
  if (bodyLength === undefined) text += 'Transfer-Encoding: chunked\r\n';
  else if (bodyLength > 0 && declared === undefined) text += `Content-Length: ${bodyLength}\r\n`;
  return { text: text + connectionFields(upgrade), bodyLength };
}

/** Checks the field; returns whether it is `Content-Length`. */
function isContentLength(name: string, value: string): boolean {
  if (!isToken(name) || !isFieldValue(value)) {
    throw new MalformedRequest('a header name or value has a character that may not be there');
  }
  switch (name.length) {
    case 'content-length'.length:
      return isNamed(name, 'content-length');
    case 'upgrade'.length:
    case 'connection'.length:
    case 'transfer-encoding'.length:
      refuseOwnField(name);
  }
  return false;
}

/** These are of one connection only, and said by us. */
function refuseOwnField(name: string): void {
  const isOwn =
    isNamed(name, 'connection') || isNamed(name, 'transfer-encoding') || isNamed(name, 'upgrade');
  if (isOwn) throw new MalformedRequest('a header is of this connection only, and ours to set');
}

function readLength(declared: number | undefined, value: string): number {
  const length = parseContentLength(value);
  if (length === undefined || declared !== undefined) {
    throw new MalformedRequest('Content-Length is not one number');
  }
  return length;
}

function lengthOf(body: UpstreamRequest['body'], declared: number | undefined): number | undefined {
  if (body !== null && !Buffer.isBuffer(body)) return declared;
  const length = body === null ? 0 : body.length;
  if (declared !== undefined && declared !== length) {
    throw new MalformedRequest('Content-Length is not the length of the body');
  }
  return length;
}

function connectionFields(upgrade: string | undefined): string {
  if (upgrade === undefined) return 'Connection: keep-alive\r\n\r\n';
  if (!isFieldValue(upgrade)) {
    throw new MalformedRequest('the protocol to upgrade to has a character that may not be there');
  }
  return `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`;
}

/** Up to here a copy into one text, and one write, is cheaper than two written together. In bytes. */
const MAX_TEXT_BODY_BYTES = 16_384;

/** Writes the head, and a body that is here already; one that is a stream is still to be sent. */
export function writeRequest(
  socket: Socket,
  { text }: RequestHead,
  body: UpstreamRequest['body'],
): void {
  if (!Buffer.isBuffer(body)) {
    socket.write(text, 'latin1');
  } else if (body.length <= MAX_TEXT_BODY_BYTES) {
    socket.write(text + body.toString('latin1'), 'latin1');
  } else {
    socket.cork();
    socket.write(text, 'latin1');
    socket.write(body);
    socket.uncork();
  }
}
