/** What every server process of the bench does: listen, say where, end with the one who started it. */
import type { AddressInfo, Server } from 'node:net';

/** For node:http servers: the default of 5 s could close idle connections while they are measured. */
export const KEEP_ALIVE = { keepAliveTimeout: 60_000 };

export function listenAndTell(server: Server): void {
  server.listen(0, '127.0.0.1', 1_024, () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  process.on('disconnect', () => process.exit());
}
