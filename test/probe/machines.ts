/** Two servers of one app, each with sessions in its own memory, and a port that connects to them in turn. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import {
  connect,
  createServer as createTcpServer,
  type AddressInfo,
  type Server as TcpServer,
} from 'node:net';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import {
  createProbeClient,
  type HeaderFields,
  type ProbeClient,
} from '../../src/probe/http-client.ts';

export interface TwoMachines {
  /** A client that meets both in turn, a connection each. */
  readonly inTurn: ProbeClient;
  /** A client that meets the first one only. */
  readonly single: ProbeClient;
}

interface TwoMachinesOptions {
  /** Called once for each server. */
  readonly createApp: () => RequestListener | Server;
  readonly headers?: HeaderFields;
  readonly timeoutMs?: number;
}

export async function startTwoMachines(
  t: TestContext,
  { createApp, ...options }: TwoMachinesOptions,
): Promise<TwoMachines> {
  const ports: number[] = [];
  for (let i = 0; i < 2; i += 1) {
    const app = createApp();
    const server = typeof app === 'function' ? createServer(app) : app;
    ports.push(await listen(server));
    t.after(() => {
      server.closeAllConnections();
      return closed(server);
    });
  }
  let connections = 0;
  const front = createTcpServer((socket) => {
    const upstream = connect(ports[connections++ % ports.length] ?? 0, '127.0.0.1');
    socket.pipe(upstream).pipe(socket);
    for (const [one, other] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      one.on('error', () => undefined);
      one.once('close', () => other.destroy());
    }
  });
  const clientAt = (port: number): ProbeClient => {
    const origin = `http://127.0.0.1:${port}`;
    const client = createProbeClient({ origin, clock: systemClock, ...options });
    t.after(() => client.close());
    return client;
  };
  const inTurn = clientAt(await listen(front));
  t.after(() => closed(front));
  return { inTurn, single: clientAt(ports[0] ?? 0) };
}

async function listen(server: TcpServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function closed(server: TcpServer): Promise<void> {
  server.close();
  await once(server, 'close');
}
