/** Reads the body of an admin request, with a bound on the pause between two chunks. */
import type { IncomingMessage } from 'node:http';
import { HttpError } from './respond.ts';
import type { Clock } from '../clock.ts';
import { withReadTimeout } from '../sessions/stall.ts';

/** The request stays open, so that a response can be sent when the reader stops early. */
export function readChunks(
  request: IncomingMessage,
  clock: Clock,
  timeoutMs: number,
): AsyncIterable<Buffer> {
  const onStall = (): void => void request.destroy();
  const chunks = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  return withReadTimeout(chunks, { clock, timeoutMs, onStall });
}

const TEXT_TIMEOUT_MS = 10_000;

/** Throws {@link HttpError} 413 if the body is larger. */
export async function readText(
  request: IncomingMessage,
  clock: Clock,
  maxBytes: number,
): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of readChunks(request, clock, TEXT_TIMEOUT_MS)) {
    size += chunk.length;
    if (size > maxBytes) throw new HttpError(413, `the body must have at most ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
