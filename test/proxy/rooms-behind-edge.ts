/** Sidecars in this process, with room apps behind them and the simulated edge in front. A room is an id that clients mint. */
import { createServer, type ServerResponse } from 'node:http';
import type { TestContext } from 'node:test';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Environment } from '../../src/config/config.ts';
import type { EdgeRequestRecord } from '../../src/simulator/records.ts';
import { startTestEdge } from '../simulator/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { machineId } from '../support/ids.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';
import { serve } from '../support/sidecar.ts';

export const ADMIN_TOKEN = 'a-token-of-an-operator';

/** A response as the client sees it. */
export interface Seen {
  readonly status: number;
  /** The app that responded. */
  readonly by: string;
  readonly retryAfter: string | null;
}

export interface RoomMachine {
  readonly log: MemoryLog;
  readonly fleet: TestFleet;
  sidecar: TestMachine;
  killApp(): void;
  /** Stops the sidecar and closes its ports. */
  stop(): Promise<void>;
  /** Starts a new sidecar with the same id and the same app. */
  startAgain(): Promise<void>;
  admin(method: string, path: string): Promise<Response>;
}

export interface Rooms {
  readonly fleet: TestFleet;
  readonly records: readonly EdgeRequestRecord[];
  machine(id: string): RoomMachine;
  start(id: string, env?: Environment, parts?: Partial<SidecarParts>): Promise<RoomMachine>;
  /** Starts the edge with all the Machines. */
  openEdge(): Promise<void>;
  /** Sends one request. The edge delivers it to that Machine first. */
  call(first: string, path: string, init?: RequestInit): Promise<Seen>;
  /** Opens an event stream. `broken` resolves when it is aborted. */
  stream(
    first: string,
    path: string,
  ): Promise<{ readonly by: string; readonly broken: Promise<void> }>;
}

export async function openRooms(t: TestContext, ...ids: string[]): Promise<Rooms> {
  const fleet = await openFleet(t, ...ids);
  const machines = new Map<string, RoomMachine>();
  const regions = new Map<string, string>();
  const stopped = new Set<string>();
  const machine = (id: string): RoomMachine => {
    const found = machines.get(id);
    if (!found) throw new Error(`${id} was not started`);
    return found;
  };

  const start: Rooms['start'] = async (id, env = {}, parts = {}) => {
    const app = await serveRooms(t, id);
    const log = createMemoryLog();
    const settings = {
      ...{ ADMIN_TOKEN, SESSION_PROTOCOLS: 'path:^/rooms/([^/]+)$,header:x-session-id' },
      ...env,
    };
    regions.set(id, env.FLY_REGION ?? 'iad');
    const begin = (): Promise<TestMachine> =>
      fleet.start(id, app.port, settings, { logger: log.logger, random: () => 0, ...parts });
    const started: RoomMachine = {
      ...{ log, fleet, killApp: app.kill, sidecar: await begin() },
      stop: async () => {
        fleet.lines.get(id)?.leadTo(undefined);
        stopped.add(id);
        await started.sidecar.sidecar.stop();
      },
      startAgain: async () => {
        started.sidecar = await begin();
        stopped.delete(id);
      },
      admin: (method, path) => {
        const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
        const { admin } = started.sidecar.sidecar.ports;
        return fetch(`http://127.0.0.1:${admin}${path}`, { method, headers });
      },
    };
    machines.set(id, started);
    return started;
  };

  let edge: Awaited<ReturnType<typeof startTestEdge>> | undefined;
  const records: EdgeRequestRecord[] = [];
  const openEdge = async (): Promise<void> => {
    const known = ids.map((id) => ({
      ...{ id: machineId(id), app: 'shop', region: regions.get(id) ?? 'iad' },
      state: 'started' as const,
      get port() {
        const port = stopped.has(id) ? undefined : machines.get(id)?.sidecar.sidecar.ports.public;
        // A port that was closed may belong to a test of another process already.
        return port ?? DEAD_PORT;
      },
      wake: () => Promise.resolve(),
    }));
    edge = await startTestEdge(t, known, { onRecord: (record) => records.push(record) });
  };
  const send = (first: string, path: string, init: RequestInit): Promise<Response> => {
    const headers = new Headers(init.headers);
    headers.set('fly-prefer-instance-id', first);
    return fetch(`${edge?.url ?? ''}${path}`, { ...init, headers });
  };

  return {
    ...{ fleet, records, machine, start, openEdge },
    call: async (first, path, init = {}) => {
      const response = await send(first, path, init);
      const { status, headers } = response;
      return { status, by: await response.text(), retryAfter: headers.get('retry-after') };
    },
    stream: async (first, path) => {
      const response = await send(first, path, { headers: { accept: 'text/event-stream' } });
      const reader = response.body?.getReader();
      if (!reader) throw new Error('no body');
      const { value } = (await reader.read()) as { readonly value?: Uint8Array };
      const broken = reader.read().then(
        () => {
          throw new Error('the stream ended as if complete');
        },
        () => undefined,
      );
      broken.catch(() => undefined);
      return { by: Buffer.from(value ?? []).toString(), broken };
    },
  };
}

/** Nothing listens on this port. */
const DEAD_PORT = 1;

/** Accepts every client in every room and responds with its name. Rejects a request with `x-banned`. */
async function serveRooms(
  t: TestContext,
  name: string,
): Promise<{ readonly port: number; readonly kill: () => void }> {
  const streams = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    request.resume();
    const isStream = request.headers.accept === 'text/event-stream';
    if (request.headers['x-banned'] !== undefined) response.writeHead(403).end(name);
    else if (isStream) {
      streams.add(response);
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(name);
    } else request.once('end', () => response.end(name));
  });
  const port = await serve(t, server);
  const kill = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { port, kill };
}
