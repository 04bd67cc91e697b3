/** Machines in this process, and an edge in front of them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type RequestListener,
  type Server,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { parseMachineId, type MachineId } from '../../src/session.ts';
import { systemClock } from '../../src/clock.ts';
import { startEdge, type Edge, type EdgeOptions } from '../../src/simulator/edge.ts';
import type { EdgeRequestRecord } from '../../src/simulator/records.ts';
import type { EdgeMachine, LifecycleState } from '../../src/simulator/targets.ts';

export function machineId(text: string): MachineId {
  const id = parseMachineId(text);
  assert.ok(id, `${text} is a Machine id`);
  return id;
}

/** A Machine whose responses the test writes. */
export interface ScriptedMachine extends EdgeMachine {
  region: string;
  readonly server: Server;
  state: LifecycleState;
  stoppedAt?: number;
  wakeCount: number;
}

export interface ScriptedOptions {
  readonly app?: string;
  readonly region?: string;
  readonly state?: LifecycleState;
}

export async function startMachine(
  t: TestContext,
  id: string,
  listener: RequestListener,
  options: ScriptedOptions = {},
): Promise<ScriptedMachine> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const upgraded = new Set<Socket>();
  server.on('connection', (socket: Socket) => upgraded.add(socket));
  t.after(() => {
    server.close();
    for (const socket of upgraded) socket.destroy();
  });
  const machine: ScriptedMachine = {
    id: machineId(id),
    app: options.app ?? 'shop',
    region: options.region ?? 'iad',
    state: options.state ?? 'started',
    port: (server.address() as AddressInfo).port,
    server,
    wakeCount: 0,
    wake: () => {
      machine.wakeCount += 1;
      machine.state = 'started';
      return Promise.resolve();
    },
  };
  return machine;
}

/** TCP port service multiplexer, RFC 1078: no program uses it, and port 0 never selects it. */
const DEAD_PORT = 1;

/** A Machine without a listener on its port. */
export async function startUnreachableMachine(t: TestContext, id: string): Promise<EdgeMachine> {
  return { ...(await startMachine(t, id, () => undefined)), port: DEAD_PORT };
}

/** Responds 200 with its id. */
export function naming(id: string): RequestListener {
  return (request, response) => {
    request.resume();
    request.once('end', () => response.end(id));
  };
}

/** Responds with a `fly-replay`, without reading the request. */
export function replaying(value: string): RequestListener {
  return (_request, response) => {
    response.writeHead(307, { 'fly-replay': value }).end('thrown away');
  };
}

export interface TestEdge extends Edge {
  readonly records: EdgeRequestRecord[];
}

export async function startTestEdge(
  t: TestContext,
  machines: readonly EdgeMachine[],
  options: Partial<EdgeOptions> = {},
): Promise<TestEdge> {
  const records: EdgeRequestRecord[] = [];
  const edge = await startEdge({
    app: 'shop',
    machines: () => machines,
    clock: systemClock,
    random: Math.random,
    onRecord: (record) => records.push(record),
    retries: { count: 2, delayMs: 5 },
    ...options,
  });
  t.after(() => edge.close());
  return { ...edge, records };
}

export interface TestResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

export interface TestRequest {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

export function sendRequest(url: string, options: TestRequest = {}): Promise<TestResponse> {
  const { method = 'GET', path = '/', headers = {}, body } = options;
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}${path}`, { method, headers, agent: false });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          rawHeaders: response.rawHeaders,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
    request.end(body);
  });
}
