/**
 * Invariant 9: everything that was started is stopped. Two whole sidecars, started and stopped ten
 * times.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import http, { createServer, type IncomingMessage, type Server } from 'node:http';
import { devNull, tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { createLogger } from '../../src/observability/log.ts';
import { createMetrics } from '../../src/observability/prometheus.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { machineId } from '../support/ids.ts';
import { untilNothingIsLeft, watchResources, type ResourceWatch } from '../support/resources.ts';
import { SESSION } from '../support/session-app.ts';
import { serve, serveApp, startTestSidecar } from '../support/sidecar.ts';

const ROUNDS = 10;
/** Per round. */
const CALLS = 100;
const ABORTED_CALLS = 10;
const SOCKETS = 5;

const HANGS = '/hangs';
const STREAM = '/stream';

/** Creates a session for every request without one, streams, hangs, and echoes on WebSockets. */
function createApp(): Server {
  let minted = 0;
  const server = createServer((req, res) => {
    if (req.url === HANGS) return;
    if (req.url === STREAM) {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
      return;
    }
    const id = req.headers['mcp-session-id'] ?? `s${(minted += 1)}-${process.hrtime.bigint()}`;
    req.resume().on('end', () => res.writeHead(200, { 'mcp-session-id': id }).end('ok'));
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    socket.on('message', (message) => socket.send(message));
  });
  return server;
}

interface Call {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  /** In chunks. */
  readonly body?: string;
}

class Client {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

  begin(machine: TestMachine, { method = 'GET', path = '/', ...call }: Call): http.ClientRequest {
    const { headers = {}, body } = call;
    const req = http.request(machine.url + path, { method, headers, agent: this.#agent });
    if (body !== undefined) req.write(body);
    return req;
  }

  async call(machine: TestMachine, call: Call): Promise<IncomingMessage> {
    const req = this.begin(machine, call).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    await res.resume().toArray();
    return res;
  }

  close(): void {
    this.#agent.destroy();
  }
}

async function makeCalls(client: Client, m1: TestMachine, m2: TestMachine): Promise<void> {
  const statuses = new Set<number | undefined>();
  for (let count = 0; count < CALLS; count += 4) {
    const opened = await client.call(m1, { method: 'POST' });
    const headers = { 'mcp-session-id': opened.headers['mcp-session-id'] };
    const calls: readonly (readonly [TestMachine, Call])[] = [
      [m1, { headers }],
      [m2, { headers }],
      [m2, { method: 'POST', headers, body: 'an upload' }],
    ];
    for (const [machine, call] of calls) {
      statuses.add((await client.call(machine, call)).statusCode);
    }
  }
  assert.deepEqual(statuses, new Set([200, 307]));
}

/** Before the head of the response, in the middle of it, and in the middle of the upload. */
async function abortCalls(client: Client, machine: TestMachine, app: Server): Promise<void> {
  for (let count = 0; count < ABORTED_CALLS; count += 1) {
    const path = count % 2 === 0 ? STREAM : HANGS;
    const isUpload = count % 3 === 0;
    const call = { path, method: 'POST', ...(isUpload && { body: 'x'.repeat(1_000) }) };
    const arrived = once(app, 'request');
    const req = client.begin(machine, call);
    req.on('error', () => undefined);
    if (!isUpload) req.end();
    await arrived;
    if (path === STREAM) {
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      res.on('error', () => undefined);
    }
    req.destroy();
  }
}

/** Some of them are still open at the end. */
async function openSockets({ url }: TestMachine): Promise<WebSocket[]> {
  const sockets: WebSocket[] = [];
  for (let count = 0; count < SOCKETS; count += 1) {
    const socket = new WebSocket(url.replace('http', 'ws'));
    await once(socket, 'open');
    socket.send('hello');
    await once(socket, 'message');
    if (count % 2 === 0) sockets.push(socket);
    else {
      socket.close();
      await once(socket, 'close');
    }
  }
  return sockets;
}

async function scrape({ sidecar }: TestMachine): Promise<void> {
  for (const path of ['/metrics', '/readyz']) {
    const req = http.get({ host: '127.0.0.1', port: sidecar.ports.admin, path, agent: false });
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    await res.resume().toArray();
    assert.equal(res.statusCode, 200);
  }
}

/** The whole life of two sidecars with everything that a process of its own would have. */
async function liveOnce(t: TestContext, clock: Clock, dir: string): Promise<void> {
  const app = createApp();
  const appPort = await serve(t, app);
  const log = await open(devNull, 'w');
  const logger = createLogger({ level: 'info', machine: machineId('m1'), clock, fd: log.fd });
  const metrics = createMetrics({ clock, version: 'test' });
  const fleet = await openFleet(t, 'm1', 'm2');
  const start = (id: string): Promise<TestMachine> => {
    return fleet.start(id, appPort, storeInFile(dir, id), { clock, logger, metrics });
  };
  const [m1, m2] = [await start('m1'), await start('m2')];
  const client = new Client();

  await makeCalls(client, m1, m2);
  await abortCalls(client, m1, app);
  const sockets = await openSockets(m1);
  await scrape(m1);

  const closed = sockets.map((socket) => once(socket, 'close'));
  await Promise.all([m1.sidecar.stop(), m2.sidecar.stop()]);
  await Promise.all(closed);
  client.close();
  metrics.close();
  await logger.close();
  await log.close();
}

function temporaryDirectory(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'fly-affinity-leaks-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

const storeInFile = (dir: string, id: string): Environment => ({
  SESSION_STORE_URL: '',
  SESSION_STORE_PATH: path.join(dir, `${id}.sqlite`),
});

/** Undefined where the system does not report it. */
async function openFileCount(): Promise<number | undefined> {
  try {
    return (await readdir('/proc/self/fd')).length;
  } catch {
    return undefined;
  }
}

test('after a thousand requests, a hundred aborted ones and fifty WebSockets in ten lives nothing is left', async (t) => {
  const dir = temporaryDirectory(t);
  await t.test('a life in which Node.js opens its global resources', (life) =>
    liveOnce(life, systemClock, dir),
  );
  const filesAtFirst = await openFileCount();
  const watch = watchResources(t);
  for (let round = 1; round <= ROUNDS; round += 1) {
    await t.test(`life ${round}`, (life) => liveOnce(life, watch.clock, dir));
    assert.equal(watch.timerCount(), 0);
    await untilNothingIsLeft(watch);
  }
  assert.equal(await openFileCount(), filesAtFirst);
});

test('a connection after a thousand requests has as many listeners as after the first', async (t) => {
  const watch = watchResources(t);
  const app = await serveApp(t, (_req, res) => res.end('ok'));
  const sidecar = await startTestSidecar(t, app, {}, { clock: watch.clock });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());

  const countAfter = async (calls: number): Promise<number> => {
    for (let count = 0; count < calls; count += 1) {
      const req = http.get({ host: '127.0.0.1', port: sidecar.ports.public, agent });
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      await res.resume().toArray();
    }
    return listenerCount(watch);
  };

  const first = await countAfter(2);
  assert.equal(await countAfter(1_000), first);
});

/** Of all sockets: those of a client and the sidecar, and of the sidecar and the app. */
function listenerCount({ sockets }: ResourceWatch): number {
  assert.equal(sockets.size, 4);
  let count = 0;
  for (const socket of sockets) {
    for (const name of socket.eventNames()) count += socket.listenerCount(name);
  }
  return count;
}

const STORES: readonly (readonly [where: string, storeIn: (dir: string) => Environment])[] = [
  ['memory', () => ({ SESSION_STORE_URL: 'memory:' })],
  ['a file', (dir) => storeInFile(dir, 'm1')],
];

for (const [where, storeIn] of STORES) {
  test(`with a cleanup interval of 0 no timer exists, the store in ${where}`, async (t) => {
    // An idle connection would have its timeout.
    const closing = { 'mcp-session-id': 'abc', connection: 'close' };
    const app = await serveApp(t, (_, res) => res.writeHead(200, closing).end());
    const store = storeIn(temporaryDirectory(t));
    const watch = watchResources(t);
    const start = (intervalMs: number): Promise<Sidecar> => {
      const env = { ...store, SESSION_STORE_CLEANUP_INTERVAL_MS: String(intervalMs) };
      return startTestSidecar(t, app, env, { clock: watch.clock });
    };
    const sidecar = await start(0);
    assert.equal(watch.timerCount(), 0);
    await openSession(sidecar);
    await until(() => watch.timerCount() === 0);
    await sidecar.stop();
    await start(60_000);
    assert.equal(watch.timerCount(), 1);
  });
}

async function openSession({ ports }: Sidecar): Promise<void> {
  const headers = { connection: 'close' };
  const response = await fetch(`http://127.0.0.1:${ports.public}/open`, {
    method: 'POST',
    headers,
  });
  assert.equal(response.headers.get('mcp-session-id'), SESSION['mcp-session-id']);
  await response.text();
}
