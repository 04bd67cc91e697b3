/** Machines whose apps have rooms: sessions with client-minted ids. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { SidecarParts } from '../../src/app/app.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import type { Claim } from '../../src/fleet/messages.ts';
import {
  RESPONSE_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
  QUERY_TIMEOUT_MS,
} from '../../src/fleet/peer-link.ts';
import { parseReplay, type ReplayInstruction } from '../../src/fly.ts';
import type { EdgeRequestRecord } from '../../src/simulator/records.ts';
import { startTestEdge } from '../simulator/support.ts';
import { openFleet, type TestFleet, type TestMachine } from './fleet.ts';
import { idPlacedOn, keyOf, machineId } from './ids.ts';
import { createMemoryLog, type MemoryLog } from './log.ts';
import { serve } from './sidecar.ts';

/** A request as the app received it. */
interface Got {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface RoomApp {
  readonly port: number;
  readonly got: readonly Got[];
  /** The status of its responses: 200, unless the test sets another. */
  status: number;
  /** Fields of its responses. */
  headers: Record<string, string>;
  /** Responses wait until the returned function is called. */
  readonly hold: () => () => void;
  /** Resolves once it has received this many requests. */
  readonly untilGot: (count: number) => Promise<void>;
}

/** Responds with its name, and to an upgrade with its name and the end of the connection. */
export async function serveRooms(t: TestContext, name: string): Promise<RoomApp> {
  const got: Got[] = [];
  const waiting = new Set<() => void>();
  let gate: Promise<void> = Promise.resolve();
  const note = (request: IncomingMessage, body: string): void => {
    const { method = '', url = '', headers } = request;
    got.push({ method, url, headers, body });
    for (const check of [...waiting]) check();
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString('latin1')));
    request.on('end', () => {
      note(request, body);
      void gate.then(() => response.writeHead(app.status, app.headers).end(name));
    });
  });
  server.on('upgrade', (request, socket: Socket) => {
    socket.on('error', () => undefined);
    note(request, '');
    const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket';
    void gate.then(() => socket.end(`${head}\r\n\r\n${name}`));
  });
  const app: RoomApp = {
    port: await serve(t, server),
    got,
    status: 200,
    headers: {},
    hold: () => {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      gate = promise.then(() => undefined);
      return () => resolve(undefined);
    },
    untilGot: (count) =>
      new Promise((resolve) => {
        const check = (): void => {
          if (got.length < count) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
  };
  return app;
}

export interface RoomMachine extends TestMachine {
  readonly app: RoomApp;
  readonly log: MemoryLog;
  /** Lines of the access log, in order. */
  readonly requests: readonly RequestLine[];
  /** The Machine that its store names as the owner of that id. */
  readonly ownerOf: (id: string) => Promise<string | undefined>;
  readonly readiness: () => Promise<{ readonly ready: boolean; readonly silent: number }>;
  readonly drain: () => Promise<void>;
}

/** The owner of a room as each of the Machines knows it, in their order. */
export async function ownersOf(machines: readonly RoomMachine[], room: string) {
  return Promise.all(machines.map((machine) => machine.ownerOf(room)));
}

export interface RequestLine {
  readonly path: string;
  readonly status: number;
  readonly decision: string;
  readonly why: string;
}

/** So long that only a missing response takes longer, however busy the computer is. In ms. */
const PATIENCE_MS = 30_000;
const PEER_TIMEOUTS: readonly number[] = [
  QUERY_TIMEOUT_MS,
  RESPONSE_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
];

/**
 * A peer that is slow on a busy computer is not unresponsive. One that is unreachable fails
 * immediately.
 */
export const clockWithLongTimeouts: Clock = {
  ...systemClock,
  after: (ms, fn) => systemClock.after(PEER_TIMEOUTS.includes(ms) ? PATIENCE_MS : ms, fn),
};

/** No heartbeats except at a start: the liveness of the Machines stays constant. */
export const withoutHeartbeats: Clock = { ...clockWithLongTimeouts, every: () => () => undefined };

const ROOM_PROTOCOLS = 'mcp,rpc,query:room';
const TOKEN = 'a-token-of-an-operator';

export async function startRoomMachine(
  t: TestContext,
  fleet: TestFleet,
  id: string,
  env: Environment = {},
  parts: Partial<SidecarParts> = {},
): Promise<RoomMachine> {
  const app = await serveRooms(t, id);
  const requests: RequestLine[] = [];
  const log = createMemoryLog((line) => void requests.push(line as RequestLine));
  const settings = { SESSION_PROTOCOLS: ROOM_PROTOCOLS, ADMIN_TOKEN: TOKEN, ...env };
  const machine = await fleet.start(id, app.port, settings, {
    ...{ logger: log.logger, clock: clockWithLongTimeouts },
    ...parts,
  });
  const admin = (method: string, path: string): Promise<Response> =>
    fetch(`http://127.0.0.1:${machine.sidecar.ports.admin}${path}`, {
      method,
      headers: { authorization: `Bearer ${TOKEN}` },
    });
  return {
    ...machine,
    ...{ app, log, requests },
    ownerOf: async (session) => {
      const response = await admin('GET', `/sessions/${keyOf(session)}`);
      const text = await response.text();
      if (response.status === 404) return undefined;
      assert.equal(response.status, 200, text);
      return (JSON.parse(text) as { readonly owner: string }).owner;
    },
    readiness: async () => {
      const body = (await (await admin('GET', '/readyz')).json()) as {
        readonly ready: boolean;
        readonly fleet: { readonly silent: number };
      };
      return { ready: body.ready, silent: body.fleet.silent };
    },
    drain: async () => {
      const response = await admin('POST', '/drain');
      assert.ok(response.ok, await response.text());
    },
  };
}

export interface RoomFleet {
  readonly ids: readonly string[];
  readonly fleet: TestFleet;
  readonly machines: readonly RoomMachine[];
  readonly machine: (id: string) => RoomMachine;
  /** A room that all of them place on that Machine. */
  readonly roomOn: (id: string, stem?: string) => string;
  /** That Machine's sidecar can't be reached by the others, and does not reach them. */
  readonly cut: (id: string) => void;
}

/** The Machines know each other once this resolves. */
export async function startRooms(
  t: TestContext,
  ids: readonly string[],
  env: Environment | ((id: string) => Environment) = {},
  parts: Partial<SidecarParts> = {},
): Promise<RoomFleet> {
  const envOf = typeof env === 'function' ? env : () => env;
  const fleet = await openFleet(t, ...ids);
  const machines: RoomMachine[] = [];
  for (const id of ids) machines.push(await startRoomMachine(t, fleet, id, envOf(id), parts));
  return {
    ids,
    fleet,
    machines,
    machine: (id) => machines.find((machine) => machine.id === id) ?? assert.fail(id),
    roomOn: (id, stem) => idPlacedOn(id, ids, stem),
    cut: (id) => fleet.lines.get(id)?.leadTo(undefined),
  };
}

/** The response of one Machine, without an edge that follows a replay. */
export interface RoomResponse {
  readonly status: number;
  readonly body: string;
  readonly headers: Headers;
  readonly replay: ReplayInstruction | undefined;
}

export async function requestRoom(
  { url }: Pick<TestMachine, 'url'>,
  room: string,
  init: RequestInit & { readonly duplex?: 'half' } = {},
): Promise<RoomResponse> {
  return requestPath(url, `/?room=${room}`, init);
}

export async function requestPath(
  url: string,
  path: string,
  init: RequestInit & { readonly duplex?: 'half' } = {},
): Promise<RoomResponse> {
  const response = await fetch(url + path, { redirect: 'manual', ...init });
  const { status, headers } = response;
  const replay = parseReplay(headers.get('fly-replay') ?? '');
  return { status, headers, body: await response.text(), replay };
}

/** Fields of a request that the sidecar of that Machine has replayed. */
export function replayedBy(machine: string, state: string | undefined = 'fly-affinity') {
  const mark = state === '' ? '' : `;state=${state}`;
  return { 'fly-replay-src': `instance=${machine};region=iad;t=1${mark}` };
}

/** Its length is unknown, so the edge can't replay it. */
export function chunked(text: string): RequestInit & { readonly duplex: 'half' } {
  return { method: 'POST', duplex: 'half', body: new Blob([text]).stream() };
}

/** A Machine's response to the sidecar of another one that queries an id. */
export async function queryPeer(
  from: string,
  { sidecar }: Pick<TestMachine, 'sidecar'>,
  session: string,
): Promise<Claim | 'no' | 'unknown'> {
  const key = keyOf(session);
  const response = await fetch(`http://127.0.0.1:${sidecar.ports.peer}/v1/ask`, {
    method: 'POST',
    body: JSON.stringify({ from, questions: [{ key }] }),
  });
  assert.equal(response.status, 200);
  const { answers } = (await response.json()) as {
    readonly answers: Readonly<Record<string, Claim | 'no' | 'unknown'>>;
  };
  return answers[key] ?? assert.fail('no answer');
}

interface EdgeBefore {
  readonly url: string;
  readonly records: readonly EdgeRequestRecord[];
  /** Requests the room; the edge selects `first` first. */
  readonly call: (first: string, room: string, init?: RequestInit) => Promise<Called>;
}

export interface Called extends RoomResponse {
  /** Machines that the edge sent it to, in order. */
  readonly way: readonly string[];
}

/** An edge in front of these Machines, which records the calls in `records`. */
export async function startEdgeBefore(
  t: TestContext,
  machines: readonly Pick<TestMachine, 'id' | 'sidecar'>[],
  options: Parameters<typeof startTestEdge>[2] = {},
): Promise<EdgeBefore> {
  const edge = await startTestEdge(
    t,
    machines.map(({ id, sidecar }) => ({
      ...{ id: machineId(id), app: 'shop', region: 'iad', state: 'started' as const },
      ...{ port: sidecar.ports.public, wake: () => Promise.resolve() },
    })),
    options,
  );
  let count = 0;
  return {
    url: edge.url,
    records: edge.records,
    call: async (first, room, init = {}) => {
      const path = `/call-${(count += 1)}`;
      const headers = new Headers(init.headers);
      headers.set('fly-prefer-instance-id', first);
      const response = await requestPath(edge.url, `${path}?room=${room}`, { ...init, headers });
      const record = edge.records.find((candidate) => candidate.path === path);
      assert.ok(record, `the edge has a record of ${path}`);
      return { ...response, way: record.hops.map(({ machine }) => String(machine)) };
    },
  };
}
