/**
 * A port that is bound before there is a listener for it, so that nobody else takes it. Its connections wait,
 * unread, and go to the listener together with the port.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import {
  BACKLOG,
  listen,
  refuseConnection,
  SERVER_OPTIONS,
  type ListenAddress,
} from './listener.ts';

export interface ReservedPort {
  readonly port: number;
  /** `server` listens on the port from now on. Once at most. */
  handOver(server: Server): Promise<void>;
  /** Closes the port and what waits there, unless it was handed over. */
  close(): Promise<void>;
}

/** Rejects as {@link listen}. `maxConnections`: how many may wait; one more gets 503. */
export async function reservePort(
  address: ListenAddress,
  maxConnections: number,
): Promise<ReservedPort> {
  const waiting = new Set<Socket>();
  let isHandedOver = false;
  const server = createServer({ ...SERVER_OPTIONS, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => undefined);
    if (waiting.size >= maxConnections) refuseConnection(socket);
    else waiting.add(socket);
  });
  await listen(server, address);
  const { port } = server.address() as AddressInfo;

  async function handOver(listener: Server): Promise<void> {
    isHandedOver = true;
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      // Without a number, Node sets the queue of the kernel to its own default.
      listener.listen(server, BACKLOG, () => {
        listener.off('error', reject);
        resolve();
      });
    });
    for (const socket of waiting) listener.emit('connection', socket);
    waiting.clear();
  }

  async function close(): Promise<void> {
    if (isHandedOver) return;
    for (const socket of waiting) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  return { port, handOver, close };
}
