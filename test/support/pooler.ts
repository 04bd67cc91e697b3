/** A Postgres pooler, as it often is between a client and Postgres. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { PostgresServer } from './postgres-server.ts';

/** Accepts connections until the test ends; returns the port. */
export async function listen(
  t: TestContext,
  onConnection: (socket: Socket) => void,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/**
 * How a pooler treats settings of a client: `refuses` them as PgBouncer does, with its message, or
 * `ignores` them, as it does when it is configured to. Everything else is passed on.
 */
export async function startPooler(
  t: TestContext,
  server: PostgresServer,
  aboutSettings: 'refuses' | 'ignores',
): Promise<{ url(database: string): string }> {
  const port = await listen(t, (socket) => {
    socket.once('data', (startup: Buffer) => {
      if (aboutSettings === 'refuses' && startup.includes('\0options\0')) {
        socket.end(errorResponse('08P01', 'unsupported startup parameter: options'));
        return;
      }
      const upstream = connect(server.port, '127.0.0.1');
      upstream.on('error', () => socket.destroy());
      upstream.write(withoutOptions(startup));
      socket.pipe(upstream).pipe(socket);
    });
  });
  return { url: (database) => server.url(database).replace(`:${server.port}/`, `:${port}/`) };
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
export function errorResponse(code: string, message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0C${code}\0M${message}\0\0`);
  const head = Buffer.from([0x45, 0, 0, 0, 0]);
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}

/** Length, version, and then names and values that each end with a zero byte. */
function withoutOptions(startup: Buffer): Buffer {
  const parameters = startup.toString('latin1', 8).replace(/(^|\0)options\0[^\0]*\0/, '$1');
  const changed = Buffer.concat([startup.subarray(0, 8), Buffer.from(parameters, 'latin1')]);
  changed.writeInt32BE(changed.length, 0);
  return changed;
}
