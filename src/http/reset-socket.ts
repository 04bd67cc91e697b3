/** Ends a TCP connection by a reset, so that the other side can't take it for a proper end. */
import type { Socket } from 'node:net';

/** What the other side has not taken yet is lost. Closes without a reset where it is too late for one. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  // libuv resets no socket that is just being shut down, and Node.js then leaves it open for ever. So
  // `resetAndDestroy` is of no use here: it begins with a shutdown, and a `destroy` may come before its end.
  const isShuttingDown = socket.writableEnded && !socket.writableFinished;
  (socket as { resetAndClosing?: boolean }).resetAndClosing = !isShuttingDown;
  socket.destroy();
}
