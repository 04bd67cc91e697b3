/** What every server process of the bench does: listen, say where, end with the one who started it. */
import type { AddressInfo, Server } from 'node:net';

export function listenAndTell(server: Server): void {
  server.listen(0, '127.0.0.1', 1_024, () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  process.on('disconnect', () => process.exit());
}
