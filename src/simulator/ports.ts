/** Ports for child processes, which must know theirs before they listen. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { pid } from 'node:process';

/** Below the ports that Linux (32768 up) and macOS (49152 up) give to outgoing connections. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;
/** What one process takes its ports from, as long as there are some. */
const BLOCK_PORTS = 300;
const BLOCKS = PORT_COUNT / BLOCK_PORTS;
const TRIES_IN_BLOCK = 1_000;
const MAX_TRIES = TRIES_IN_BLOCK + 200;

/**
 * Finds ports that nobody listens on. A port stays free for its Machine while the Machine is
 * stopped, as outgoing connections never take one of these, and none is given twice. Another
 * simulation at the same time looks elsewhere: its process has another id, and so another block.
 */
export function createPortFinder(random: () => number): () => Promise<number> {
  const given = new Set<number>();
  const firstOfBlock = FIRST_PORT + (pid % BLOCKS) * BLOCK_PORTS;
  return async () => {
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const port =
        tries < TRIES_IN_BLOCK
          ? firstOfBlock + Math.floor(random() * BLOCK_PORTS)
          : FIRST_PORT + Math.floor(random() * PORT_COUNT);
      if (given.has(port)) continue;
      // Before it is known to be free: another search may be under way.
      given.add(port);
      if (await isFree(port)) return port;
    }
    throw new Error(`no free port from ${FIRST_PORT} to ${FIRST_PORT + PORT_COUNT - 1}`);
  };
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch {
    // Taken, or not ours to take: either way the next one is tried.
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
