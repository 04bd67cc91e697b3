/**
 * The simulated Fly Proxy: accepts requests, distributes them over the Machines of an app and follows
 * `fly-replay` (https://fly.io/docs/networking/dynamic-request-routing/).
 */
import { Agent, createServer, ServerResponse, type IncomingMessage, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { ReplayableBody } from './body.ts';
import { type DeliveryRetries, createMachineLoad } from './delivery.ts';
import { headersForMachine } from './edge-headers.ts';
import { EdgeRequest, type EdgeContext, type UnreachableCached } from './edge-request.ts';
import { WHOLE_LINE, type Line } from './line.ts';
import type { EdgeRequestRecord } from './records.ts';
import { createReplayCache, type ReplayCacheRule } from './replay-cache.ts';
import { createSpread, type SpreadName } from './spread.ts';
import type { EdgeMachine } from './targets.ts';

export interface EdgeOptions {
  /** The app whose Machines get the requests. */
  readonly app: string;
  /** The current Machines of all apps; called for each request. */
  readonly machines: () => readonly EdgeMachine[];
  readonly clock: Clock;
  /** From 0 up to but not including 1. */
  readonly random: () => number;
  /** 0, the default, uses a free one. */
  readonly port?: number;
  readonly region?: string;
  readonly spread?: SpreadName;
  /** Bytes of a body beyond which a request cannot be replayed. */
  readonly maxReplayBodyBytes?: number;
  readonly maxReplays?: number;
  readonly retries?: DeliveryRetries;
  /**
   * Whether to drop replay headers that a client sends. Fly does not document this; by default the edge
   * passes them on, which is the harder case for a sidecar that relies on them.
   */
  readonly stripsReplayHeaders?: boolean;
  /** Rules for caching replays by session; none by default. A response can request caching by path itself. */
  readonly replayCache?: readonly ReplayCacheRule[];
  /** `route-afresh` by default. */
  readonly unreachableCached?: UnreachableCached;
  /** The maximum number of concurrent requests per Machine, including open streams and sockets. */
  readonly hardLimit?: number;
  /**
   * Whether to skip Machines that stopped within the last five minutes if another one can
   * take the request (PM11, https://fly.io/docs/monitoring/error-codes/).
   */
  readonly passesOverRecentlyStopped?: boolean;
  /** The line between the edge and a Machine; without faults by default. */
  readonly lineTo?: (machine: MachineId) => Line;
  /** The timeout for connecting to a Machine, in ms. */
  readonly connectTimeoutMs?: number;
  readonly onRecord?: (record: EdgeRequestRecord) => void;
}

export interface Edge {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  setSpread(name: SpreadName): void;
  /** Closes all connections, and resolves when nothing of the edge is left. */
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
const DEFAULT_REGION = 'iad';
/** "Requests larger than 1MB cannot be replayed". */
const MAX_REPLAY_BODY_BYTES = 1_000_000;
/** PA02, https://fly.io/docs/monitoring/error-codes/ */
const MAX_REPLAYS = 10;
/** PR03: "up to 90 retries are attempted". */
const RETRIES: DeliveryRetries = { count: 90, delayMs: 100 };
/** PC05, https://fly.io/docs/monitoring/error-codes/; the time itself is not documented. */
const CONNECT_TIMEOUT_MS = 1_000;
/** More than a proxy behind the edge accepts, so that such requests reach it. */
const MAX_HEADER_BYTES = 64 * 1024;
/** In ms. Clients pool their connections; if the edge closed one first, a request just sent on it would fail. */
const KEEP_ALIVE_TIMEOUT_MS = 620_000;

/** Rejects if the port is not available. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  let spread = createSpread(options.spread ?? 'round-robin', options.random);
  const agents = createAgents();
  const context: EdgeContext = {
    app: options.app,
    machines: options.machines,
    spread: () => spread,
    agentFor: agents.agentFor,
    clock: options.clock,
    maxReplays: options.maxReplays ?? MAX_REPLAYS,
    retries: options.retries ?? RETRIES,
    lineTo: ({ id }) => options.lineTo?.(id) ?? WHOLE_LINE,
    connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    load: createMachineLoad(options.hardLimit),
    passesOverRecentlyStopped: options.passesOverRecentlyStopped ?? false,
    replayCache: createReplayCache(options.replayCache ?? [], options.clock),
    unreachableCached: options.unreachableCached ?? 'route-afresh',
    onRecord: (record) => options.onRecord?.(record),
  };
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    requestTimeout: 0,
    // The edge only switches to WebSocket. Other upgrades are ordinary requests.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  });
  const sockets = trackSockets(server);
  takeRequests(server, context, options);
  server.listen(options.port ?? 0, HOST);
  await once(server, 'listening');
  return {
    url: `http://${HOST}:${portOf(server)}`,
    setSpread: (name) => {
      spread = createSpread(name, options.random);
    },
    close: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      agents.close();
      await once(server, 'close');
    },
  };
}

function takeRequests(server: Server, context: EdgeContext, options: EdgeOptions): void {
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    const body = new ReplayableBody(request, options.maxReplayBodyBytes ?? MAX_REPLAY_BODY_BYTES);
    const left = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) left.abort();
    });
    const incoming = { ...stamped(request, options, false), body, response, upgrade: undefined };
    run(new EdgeRequest({ ...incoming, signal: left.signal }, context), response);
  };
  server.on('request', take);
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    response.writeContinue();
    take(request, response);
  });
  server.on('upgrade', (request: IncomingMessage, _socket, head: Buffer) => {
    const { socket } = request;
    const response = errorResponseOn(socket, request);
    const left = new AbortController();
    const leave = (): void => left.abort();
    socket.once('close', leave);
    // A client may disconnect at any time; 'close' follows.
    socket.on('error', () => undefined);
    const upgrade = { head, take: () => socket.off('close', leave) };
    const incoming = { ...stamped(request, options, true), body: undefined, response, upgrade };
    run(new EdgeRequest({ ...incoming, signal: left.signal }, context), response);
  });
}

/** A defect of the simulator must not appear as a response of a Machine. */
function run(exchange: EdgeRequest, response: ServerResponse): void {
  exchange.run().catch((error: unknown) => {
    response.destroy(error instanceof Error ? error : new Error(String(error)));
  });
}

function stamped(
  request: IncomingMessage,
  options: EdgeOptions,
  isUpgrade: boolean,
): { request: IncomingMessage; requestId: string; rawHeaders: readonly string[] } {
  const region = options.region ?? DEFAULT_REGION;
  const requestId = newRequestId(options.random, region);
  const stamp = {
    clientIp: (request.socket.remoteAddress ?? '').replace(/^::ffff:/, ''),
    port: request.socket.localPort ?? 0,
    appAddress: HOST,
    region,
    requestId,
  };
  const head = { method: request.method ?? 'GET', rawHeaders: request.rawHeaders, isUpgrade };
  const stripsReplayHeaders = options.stripsReplayHeaders ?? false;
  return {
    request,
    requestId,
    rawHeaders: headersForMachine(head, stamp, { stripsReplayHeaders }),
  };
}

/** For an upgrade that gets an ordinary response, which is the last one on its connection. */
function errorResponseOn(socket: Socket, request: IncomingMessage): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => {
    response.detachSocket(socket);
    socket.end();
    socket.resume();
  });
  return response;
}

/** One pool of connections per Machine. */
function createAgents(): { agentFor: (machine: EdgeMachine) => Agent; close: () => void } {
  const agents = new Map<MachineId, Agent>();
  return {
    agentFor: ({ id }) => {
      const agent = agents.get(id) ?? new Agent({ keepAlive: true });
      agents.set(id, agent);
      return agent;
    },
    close: () => {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

const REQUEST_ID_LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const REQUEST_ID_LENGTH = 26;

/** In Fly's format: `01K5Z3J6QF8T3V0W5N2R4Y7B9C-iad`. */
function newRequestId(random: () => number, region: string): string {
  const letter = (): string =>
    REQUEST_ID_LETTERS.charAt(Math.floor(random() * REQUEST_ID_LETTERS.length));
  return `${Array.from({ length: REQUEST_ID_LENGTH }, letter).join('')}-${region}`;
}
