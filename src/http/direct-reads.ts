/**
 * Takes what an accepted socket reads before the stream does: without a way through the stream's buffer,
 * an event and a turn of the queue for each read, which cost as much as reading a head.
 */
import { Socket } from 'node:net';

/**
 * From now on each read goes to `onRead`, which says whether to read on; after a false one the socket
 * stands still until {@link readOn}. 'data' is not emitted any more, the other events are.
 */
export function readDirectly(socket: Socket, onRead: (bytes: Buffer) => boolean): void {
  // What node:net reads it hands to `push`, and it stops reading when that returns false; the end is null.
  socket.push = (chunk: Buffer | null): boolean =>
    chunk === null ? Socket.prototype.push.call(socket, null) : onRead(chunk);
  // The end is told to a stream that flows alone.
  socket.resume();
}

/** Reads on if the socket stands still. */
export function readOn(socket: Socket): void {
  if (!socket.destroyed) socket._read(0);
}
