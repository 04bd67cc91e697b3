/**
 * Writes bytes to a socket in as few system calls as possible. Short ones leave together with the head
 * before them as one latin-1 string, which node:net writes at once and without a buffer.
 */
import type { Socket } from 'node:net';

/** Up to here a copy into a string is cheaper than a second write. In bytes. */
const MAX_TEXT_BYTES = 16_384;
/** What may wait in a socket before its source is paused, in bytes. */
export const MAX_WAITING_BYTES = 65_536;

/**
 * Whose memory the bytes are in: `kept` is the socket's to keep, `shared` is read into again right
 * after the call, `lent` is not read into before the socket has written all.
 */
export type Ownership = 'kept' | 'shared' | 'lent';

/** Whether the source may go on; if not, the socket emits 'drain' later. */
export function writeBytes(
  socket: Socket,
  prefix: string,
  bytes: Buffer,
  start: number,
  end: number,
  ownership: Ownership,
): boolean {
  const length = end - start;
  if (length <= MAX_TEXT_BYTES) {
    return writeText(socket, prefix + bytes.toString('latin1', start, end));
  }
  if (prefix !== '') socket.write(prefix, 'latin1');
  const part = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
  // What the kernel does not take at once is read from this memory later.
  const isTaken = socket.write(ownership === 'shared' ? Buffer.from(part) : part);
  if (ownership === 'lent') return socket.writableLength === 0;
  return isTaken || socket.writableLength < MAX_WAITING_BYTES;
}

export function writeText(socket: Socket, text: string): boolean {
  return socket.write(text, 'latin1') || socket.writableLength < MAX_WAITING_BYTES;
}
