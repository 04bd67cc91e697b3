/**
 * Whole sidecars in this process behind the simulated edge, each in front of an app that creates
 * sessions.
 */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Environment } from '../../src/config/config.ts';
import type { EdgeRequestRecord } from '../../src/simulator/records.ts';
import { startTestEdge } from '../simulator/support.ts';
import { openFleet, type TestMachine } from './fleet.ts';
import { machineId } from './ids.ts';

/** An app that can be killed and started again at its port, without its memory. */
interface MortalApp {
  readonly port: number;
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** `POST /` creates a session; a request in one of its own returns its name, in another a 404. */
async function serveMortalApp(t: TestContext, name: string): Promise<MortalApp> {
  let mintedCount = 0;
  const mint = (): string => `${name}-${(mintedCount += 1)}`;
  let running = await serveAt(name, 0, mint);
  const { port } = running.server.address() as AddressInfo;
  const kill = async (): Promise<void> => {
    const { server, sockets } = running;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  t.after(kill);
  return {
    port,
    kill,
    start: async () => {
      running = await serveAt(name, port, mint);
    },
  };
}

interface Served {
  readonly server: Server;
  readonly sockets: ReadonlySet<Socket>;
}

async function serveAt(name: string, port: number, mint: () => string): Promise<Served> {
  const sessions = new Set<string>();
  const sockets = new Set<Socket>();
  const server = createServer((req, res) => {
    const id = req.headers['mcp-session-id'];
    if (id === undefined) {
      const minted = mint();
      sessions.add(minted);
      res.setHeader('mcp-session-id', minted);
    }
    const isKnown = id === undefined || sessions.has(String(id));
    if (isKnown && req.method === 'DELETE') sessions.delete(String(id));
    req.resume().once('end', () => res.writeHead(isKnown ? 200 : 404).end(name));
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { server, sockets };
}

/** What a client receives from one call, and the hops. */
export interface Called {
  readonly status: number;
  /** The app that responded. */
  readonly by: string;
  readonly session: string | undefined;
  /** The Machines that the edge sent it to, in order. */
  readonly way: readonly string[];
}

export interface EdgeFleet {
  readonly url: string;
  readonly machines: ReadonlyMap<string, TestMachine>;
  readonly apps: ReadonlyMap<string, MortalApp>;
  readonly records: readonly EdgeRequestRecord[];
  /** Opens a session; the edge selects this Machine first. */
  open(first: string, init?: RequestInit): Promise<Called>;
  /** Calls in a session; the edge selects this Machine first. */
  call(first: string, session: string, init?: RequestInit): Promise<Called>;
  /** To the admin port of a Machine, with its token. */
  admin(id: string, method: string, path: string): Promise<Response>;
}

export const ADMIN_TOKEN = 'a-token-of-an-operator';

export async function startBehindEdge(
  t: TestContext,
  ids: readonly string[],
  env: Environment = {},
  parts: (id: string) => Partial<SidecarParts> = () => ({}),
): Promise<EdgeFleet> {
  const fleet = await openFleet(t, ...ids);
  const machines = new Map<string, TestMachine>();
  const apps = new Map<string, MortalApp>();
  for (const id of ids) {
    const app = await serveMortalApp(t, id);
    apps.set(id, app);
    machines.set(id, await fleet.start(id, app.port, { ADMIN_TOKEN, ...env }, parts(id)));
  }
  const edge = await startTestEdge(
    t,
    [...machines].map(([id, { sidecar }]) => ({
      id: machineId(id),
      app: 'shop',
      region: 'iad',
      state: 'started',
      port: sidecar.ports.public,
      wake: () => Promise.resolve(),
    })),
  );

  let callCount = 0;
  const send = async (first: string, init: RequestInit): Promise<Called> => {
    const path = `/call-${(callCount += 1)}`;
    const headers = new Headers(init.headers);
    headers.set('fly-prefer-instance-id', first);
    const response = await fetch(edge.url + path, { ...init, headers });
    const by = await response.text();
    const record = edge.records.find((candidate) => candidate.path === path);
    assert.ok(record, `the edge has a record of ${path}`);
    return {
      status: response.status,
      by,
      session: response.headers.get('mcp-session-id') ?? undefined,
      way: record.hops.map(({ machine }) => String(machine)),
    };
  };
  return {
    url: edge.url,
    machines,
    apps,
    records: edge.records,
    open: (first, init = {}) => send(first, { method: 'POST', ...init }),
    call: (first, session, init = {}) =>
      send(first, { ...init, headers: { 'mcp-session-id': session } }),
    admin: (id, method, path) => {
      const port = machines.get(id)?.sidecar.ports.admin ?? 0;
      const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
      return fetch(`http://127.0.0.1:${port}${path}`, { method, headers });
    },
  };
}
