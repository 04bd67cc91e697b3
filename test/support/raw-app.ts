/** An app on a plain socket, which responds as the test states, byte for byte. */
import net from 'node:net';
import type { TestContext } from 'node:test';

type OnRawRequest = (socket: net.Socket, request: string, count: number) => void;

/** Calls `onRequest` with each packet; listens on a free port of 127.0.0.1 until the test ends. */
export async function serveRawApp(t: TestContext, onRequest: OnRawRequest): Promise<number> {
  let count = 0;
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => onRequest(socket, chunk.toString('latin1'), ++count));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as net.AddressInfo).port;
}
