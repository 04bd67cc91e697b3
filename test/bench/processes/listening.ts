/**
 * The common part of the bench's server processes: listen, report the port, end with the parent.
 */
import type { AddressInfo, Server } from 'node:net';

/** For node:http servers: the default of 5 s could close idle connections during a measurement. */
export const KEEP_ALIVE = { keepAliveTimeout: 60_000 };

export function listenAndReport(server: Server): void {
  server.listen(0, '127.0.0.1', 1_024, () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  process.on('disconnect', () => process.exit());
}
