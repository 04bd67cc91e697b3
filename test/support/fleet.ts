/** Several sidecars in this process that know each other by a static list. */
import { connect, createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { nullMetrics, type Metrics } from '../../src/observability/metrics.ts';
import type { StoreMetrics } from '../../src/store/store.ts';
import { resetSocket } from '../../src/http/socket.ts';
import { startTestSidecar } from './sidecar.ts';

/**
 * A port that leads to a peer listener and exists before it: lists of Machines name it. While it
 * leads nowhere, connections to it are closed.
 */
export interface Line {
  readonly port: number;
  leadTo(port: number | undefined): void;
  /** Nothing passes the connections that are open now, and they stay open; new ones work. */
  freeze(): void;
  /** The port has no listener any more, and nobody else gets it: connections are refused. */
  refuse(): void;
}

export async function openLine(t: TestContext): Promise<Line> {
  const sockets = new Set<Socket>();
  let leadsTo: number | undefined;
  const server = createServer({ noDelay: true }, (near) => {
    if (leadsTo === undefined) {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: leadsTo, host: '127.0.0.1', noDelay: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      // A reset stays a reset.
      one.on('error', () => resetSocket(other)).on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    leadTo: (port) => {
      leadsTo = port;
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    freeze: () => {
      for (const socket of sockets) socket.unpipe().pause();
    },
    refuse: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      keepFromListeners(t, port);
    },
  };
}

/**
 * A connection from the port keeps it in use: the kernel gives it to no listener, also not to one of
 * another process, whose Machines may have the same names.
 */
function keepFromListeners(t: TestContext, port: number): void {
  const keeper = createServer();
  keeper.listen(0, '127.0.0.1', () => {
    const { port: to } = keeper.address() as AddressInfo;
    const socket = connect({
      host: '127.0.0.1',
      port: to,
      localAddress: '127.0.0.1',
      localPort: port,
    });
    keeper.once('connection', (other) => other.on('error', () => undefined));
    socket.on('error', () => undefined);
    t.after(() => socket.destroy());
  });
  t.after(() => keeper.close());
}

export interface TestMachine {
  readonly id: string;
  readonly sidecar: Sidecar;
  readonly url: string;
  /** Rows in its store. */
  rowCount(): Promise<number>;
}

export interface TestFleet {
  /** `FLEET` for all of them. */
  readonly list: string;
  readonly lines: ReadonlyMap<string, Line>;
  start(
    id: string,
    appPort: number,
    env?: Environment,
    parts?: Partial<SidecarParts>,
  ): Promise<TestMachine>;
}

/** Machines with these names, none of which has been started yet. */
export async function openFleet(t: TestContext, ...ids: string[]): Promise<TestFleet> {
  const lines = new Map<string, Line>();
  for (const id of ids) lines.set(id, await openLine(t));
  const list = [...lines].map(([id, { port }]) => `${id}@127.0.0.1:${port}`).join(',');

  const start: TestFleet['start'] = async (id, appPort, env = {}, parts = {}) => {
    const store = watchedStore(parts.metrics ?? nullMetrics);
    const settings = { FLY_MACHINE_ID: id, FLEET: list, ...env };
    const sidecar = await startTestSidecar(t, appPort, settings, {
      ...parts,
      metrics: store.metrics,
    });
    lines.get(id)?.leadTo(sidecar.ports.peer);
    const url = `http://127.0.0.1:${sidecar.ports.public}`;
    return { id, sidecar, url, rowCount: async () => (await store.read()).total };
  };

  return { list, lines, start };
}

interface WatchedStore {
  readonly metrics: Metrics;
  readonly read: () => Promise<StoreMetrics>;
}

function watchedStore(metrics: Metrics): WatchedStore {
  let watched: { getMetrics(): Promise<StoreMetrics> } | undefined;
  return {
    metrics: {
      ...metrics,
      watchStore: (given) => {
        watched = given;
        metrics.watchStore(given);
      },
    },
    read: () => watched?.getMetrics() ?? Promise.reject(new Error('no store is open')),
  };
}
