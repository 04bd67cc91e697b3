/** Ends a TCP connection by a reset, so that the other side can't take it for a proper end. */
import type { Socket } from 'node:net';

/** What the other side has not taken yet is lost. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  socket.resetAndDestroy();
  // By itself that waits for all writes, and so for ever for a peer that reads nothing.
  if (socket.writableLength > 0) socket.destroy();
}
