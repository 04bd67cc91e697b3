/** Complete sidecars that own a session, and clients that notice when its streams are aborted. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { formatEnd, formatSession, HEAD } from '../../src/sessions/document.ts';
import type { TestFleet, TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { createMemoryLog, type MemoryLog, type Line } from '../support/log.ts';
import { serve } from '../support/sidecar.ts';

const ADMIN_TOKEN = 'a-token-of-an-operator';
const ID = 'room';
export const KEY = keyOf(ID);
export const HALF = 'x'.repeat(1_000);

export interface App {
  readonly port: number;
  /** The open responses, each with half of its download sent. */
  readonly downloads: ServerResponse[];
}

/** Reveals `room` at `/mint`; `/events`, `/download` and WebSockets begin with the app's name. */
async function serveApp(t: TestContext, name: string): Promise<App> {
  const downloads: ServerResponse[] = [];
  const server = createServer((req, res) => {
    if (req.url === '/mint') res.setHeader('x-session-id', ID).end(name);
    else if (req.url === '/events') {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write(`data: ${name}\n\n`);
    } else if (req.url === '/download') {
      res.writeHead(200, { 'content-length': String(2 * HALF.length) }).write(HALF);
      downloads.push(res);
    } else res.end(name);
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.send(name));
  t.after(() => sockets.close());
  return { port: await serve(t, server), downloads };
}

export interface Machine extends TestMachine, App {
  readonly log: MemoryLog;
  /** Lines of the access log: path, status, and the reason of an abort. */
  readonly requests: unknown[];
  /** Reasons that the metric of released sessions counted. */
  readonly released: string[];
}

export async function startMachine(
  t: TestContext,
  fleet: TestFleet,
  id: string,
  { env = {}, ...given }: Partial<SidecarParts> & { env?: Environment } = {},
): Promise<Machine> {
  const app = await serveApp(t, id);
  const released: string[] = [];
  const metrics = { ...nullMetrics, sessionReleased: (why: string) => void released.push(why) };
  const requests: unknown[] = [];
  const log = createMemoryLog((line) => {
    const { path, status, reason } = line as Record<string, unknown>;
    requests.push([path, status, reason]);
  });
  const parts: Partial<SidecarParts> = { metrics, logger: log.logger, random: () => 0, ...given };
  const settings = { ADMIN_TOKEN, SESSION_ID_HINTS: 'false', ...env };
  const machine = await fleet.start(id, app.port, settings, parts);
  return { ...machine, ...app, log, requests, released };
}

export function mint({ url }: Machine): Promise<string> {
  return fetch(`${url}/mint`).then((response) => response.text());
}

export const SESSION = { 'x-session-id': ID };

export interface Stream {
  /** The app that sends the stream. */
  readonly by: string;
  /** Resolves when it is aborted. Rejects if it ends as if complete. */
  readonly broken: Promise<void>;
}

export async function openEvents(url: string, headers = {}): Promise<Stream> {
  const response = await fetch(`${url}/events`, { headers: { ...SESSION, ...headers } });
  const reader = response.body?.getReader() ?? assert.fail('no body');
  const { value } = (await reader.read()) as { readonly value?: Uint8Array };
  const broken = reader.read().then(
    () => assert.fail('the stream ended as if complete'),
    () => undefined,
  );
  broken.catch(() => undefined);
  return { by: /data: (\w+)/.exec(Buffer.from(value ?? []).toString())?.[1] ?? '', broken };
}

export async function openSocket(t: TestContext, url: string, headers = {}): Promise<Stream> {
  const socket = new WebSocket(url.replace('http', 'ws'), { headers: { ...SESSION, ...headers } });
  t.after(() => socket.terminate());
  const broken = once(socket, 'close').then(() => undefined);
  const [message] = (await once(socket, 'message')) as [Buffer];
  return { by: message.toString(), broken };
}

export function releasesIn({ log }: Machine): Line[] {
  return log.lines.filter(({ message }) => message.startsWith('session released'));
}

export function admin(
  { sidecar }: Machine,
  method: string,
  path: string,
  body?: string,
): Promise<Response> {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  const init = { method, headers, ...(body !== undefined && { body }) };
  return fetch(`http://127.0.0.1:${sidecar.ports.admin}${path}`, init);
}

/** An import file that moves the session to that Machine. */
export function movedTo(id: string): string {
  const now = Date.now();
  const binding = {
    ...{ key: KEY, machine: machineId(id), origin: 'learned' as const, generation: 5 },
    ...{ createdAt: now, expiresAt: now + 600_000 },
  };
  return [HEAD, formatSession(binding), formatEnd(1), ''].join('\n');
}
