/**
 * Runs in its own thread: a crowd of clients that call until the end is signaled, and then once
 * more. The edge and the private network of the simulation are in the main thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { seededRandom } from '../support/seeded-random.ts';
import type { Target } from '../support/target.ts';
import { stay, type Visit } from './guest.ts';
import { createMcpClient } from './mcp.ts';
import type { Client } from './outcome.ts';
import { createRealMcpClient } from './real-mcp.ts';
import { createRealSocketIoClient } from './real-socket-io.ts';
import { createRpcClient } from './rpc.ts';
import { createSocketIoClient } from './socket-io.ts';
import { createSocketClient } from './socket.ts';

const CLIENTS = {
  mcp: createMcpClient,
  rpc: createRpcClient,
  'socket.io': createSocketIoClient,
  websocket: createSocketClient,
  'MCP SDK': createRealMcpClient,
  'socket.io-client': createRealSocketIoClient,
} as const satisfies Record<string, (target: Target) => Client>;

type ProtocolName = keyof typeof CLIENTS;

export interface CrowdPlan {
  readonly target: Target;
  readonly seed: number;
  /** How many clients of each there are. */
  readonly clients: Readonly<Partial<Record<ProtocolName, number>>>;
}

const { target, seed, clients } = workerData as CrowdPlan;
const random = seededRandom(seed);
const over = new AbortController();
const visits: Visit[] = [];

parentPort?.once('message', () => over.abort());
const arrivals: Promise<unknown>[] = [];
const stays = Object.entries(clients).flatMap(([protocol, count]) =>
  Array.from({ length: count }, () => {
    const arrival = Promise.withResolvers<undefined>();
    arrivals.push(arrival.promise);
    return stay({
      protocol,
      client: CLIENTS[protocol as ProtocolName](target),
      random,
      isOver: over.signal,
      onVisit: (visit) => visits.push(visit),
      onArrived: () => arrival.resolve(undefined),
    });
  }),
);
void Promise.all(arrivals).then(() => parentPort?.postMessage('all are here'));
await Promise.all(stays);
parentPort?.postMessage(visits);
