/** Bounds the connections of the admin listener: each may hold a response that its client does not read. */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * A new connection takes the place of the oldest one, as refusing it would let anyone who opens a few hundred sockets
 * turn away all health checks. `isKept`: of an operator, who may have a long request in flight.
 */
export function boundConnections(
  server: Server,
  maxCount: number,
  isKept: (socket: Socket) => boolean,
): void {
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    if (open.size > maxCount) closeOldest(open, isKept);
  });
}

function closeOldest(open: Set<Socket>, isKept: (socket: Socket) => boolean): void {
  for (const socket of open) {
    if (isKept(socket)) continue;
    // Its 'close' comes after other connections.
    open.delete(socket);
    socket.destroy();
    return;
  }
}
