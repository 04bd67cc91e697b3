/** A request's body on its way to an upstream: nothing, the bytes that are here already, or a stream. */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { HeadFields } from './headers.ts';

/** Bodies up to this length are sent in one piece if they came with their head, in bytes. */
const MAX_WHOLE_BODY_BYTES = 65_536;

export type RequestBody = Buffer | Readable | null;

/** Whether a body follows the head (RFC 9112 §6.3). */
export function hasBody(fields: HeadFields): boolean {
  if (fields.transferEncoding !== undefined) return true;
  return fields.contentLength !== undefined && fields.contentLength !== '0';
}

/**
 * The body, to be called once the packet that brought the head has been parsed. What is here
 * already is taken as it is: nothing is waited for, nothing is copied.
 */
export function takeBody(req: IncomingMessage, fields: HeadFields): RequestBody {
  const length = Number(fields.contentLength ?? Infinity);
  if (length <= MAX_WHOLE_BODY_BYTES && req.readableLength === length) {
    return (req.read() as Buffer | null) ?? null;
  }
  return new BodyStream(req);
}

/**
 * Pulls from the request as fast as the upstream takes it. Unlike the request itself it may be
 * destroyed without its connection: an upstream that answers early ends the upload, not the client.
 */
class BodyStream extends Readable {
  readonly #req: IncomingMessage;
  readonly #onData = (chunk: Buffer): void => {
    if (!this.push(chunk)) this.#req.pause();
  };
  readonly #onEnd = (): void => {
    this.push(null);
  };
  readonly #onClose = (): void => {
    if (!this.#req.complete) this.destroy(new Error('the client left before its body was read'));
  };

  constructor(req: IncomingMessage) {
    super();
    this.#req = req;
    req.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onClose);
    req.pause();
    // Whoever sends it has listeners of its own. Where nobody does any more, or yet, a client that
    // leaves is no reason to end the process.
    this.on('error', () => undefined);
  }

  override _read(): void {
    this.#req.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#req.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose);
    callback(error);
  }
}
