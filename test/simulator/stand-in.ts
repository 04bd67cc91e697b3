/**
 * Replaces the sidecar or the app of a Machine: responds with its name, keeps a counter in memory,
 * and replays to the Machine that `x-owner` names. Run as a process.
 */
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';

const { PORT, PEER_PORT, FLY_MACHINE_ID = '', UPSTREAM_URL, FAILS, FAILS_WITH } = process.env;

// The second argument is a file: a process that starts before the file exists succeeds.
if (FAILS !== undefined || existsSync(FAILS_WITH ?? '')) {
  console.error('no luck today');
  process.exit(3);
}

let count = 0;

createServer((request, response) => {
  request.resume();
  const owner = request.headers['x-owner']?.toString() ?? FLY_MACHINE_ID;
  if (owner !== FLY_MACHINE_ID && request.headers['fly-replay-failed'] === undefined) {
    const replay = `instance=${owner};timeout=5s;fallback=force_self`;
    response.writeHead(307, { 'fly-replay': replay }).end();
    return;
  }
  count += 1;
  const failed = request.headers['fly-replay-failed'];
  const env = process.env;
  response.end(JSON.stringify({ machine: FLY_MACHINE_ID, pid: process.pid, count, failed, env }));
}).listen(Number(PORT), '127.0.0.1', () => console.log(process.pid));

// Only a sidecar has an upstream, and a listener for its peers.
if (UPSTREAM_URL !== undefined) {
  createServer((_request, response) => response.end(FLY_MACHINE_ID)).listen(Number(PEER_PORT));
}
