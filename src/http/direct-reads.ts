/**
 * Reads an accepted socket without the stream's buffer, its 'data' event and the `process.nextTick()` that
 * each read costs there: together they take as long as parsing a head.
 */
import { Socket } from 'node:net';

/**
 * Passes each read to `onRead`. If that returns false, reading is paused until {@link readOn}. 'data' is
 * not emitted any more, the other events are.
 */
export function readDirectly(socket: Socket, onRead: (bytes: Buffer) => boolean): void {
  // node:net calls `push` with each read, and with null at the end. It pauses when that returns false.
  socket.push = (chunk: Buffer | null): boolean =>
    chunk === null ? Socket.prototype.push.call(socket, null) : onRead(chunk);
  // 'end' is only emitted by a stream that flows.
  socket.resume();
}

/** Resumes reading, if it is paused. */
export function readOn(socket: Socket): void {
  if (!socket.destroyed) socket._read(0);
}
