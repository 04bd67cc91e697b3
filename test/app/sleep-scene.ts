/** A sidecar whose Machine suspends itself, with a clock that jumps as that of a suspended Machine. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import type { SleepStatus } from '../../src/admin/health.ts';
import type { Metrics } from '../../src/observability/metrics.ts';
import { startTurnClock } from '../support/clock.ts';
import type { Line } from '../support/fleet.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';
import { serveMachinesApi } from '../support/machines-api.ts';
import { openMetrics } from '../support/metrics.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

export const AFTER_MS = 20_000;
export const TTL_MS = 3_600_000;
export const NIGHT_MS = 8 * 3_600_000;
export const SUSPENDED = 'this Machine was suspended';
export const FAILED = 'could not suspend this Machine';
export const STAYS_AWAKE = 'this Machine stays awake';
/** What Fly Proxy adds to each request. */
const THROUGH_EDGE = { 'fly-request-id': 'r1' };

/** A clock whose wall time can be set forward, while its monotonic time goes on. */
export interface JumpingClock extends Clock {
  jump(ms: number): void;
}

export function createJumpingClock(t: TestContext): JumpingClock {
  const clock = startTurnClock(t);
  let jumpedMs = 0;
  return {
    ...clock,
    now: () => clock.now() + jumpedMs,
    jump: (ms) => (jumpedMs += ms),
  };
}

export interface Scene {
  readonly clock: JumpingClock;
  readonly log: MemoryLog;
  readonly metrics: Metrics;
  readonly sidecar: Sidecar;
  readonly url: string;
  /** The requests to Fly's API. */
  readonly calls: string[];
}

export type Respond = (request: IncomingMessage, response: ServerResponse, scene: Scene) => void;

/** The Machine is suspended for a night, and the clock is right when it resumes. */
export const suspend: Respond = (_, response, { clock }) => {
  clock.jump(NIGHT_MS);
  response.end('{"ok":true}');
};

export async function startScene(
  t: TestContext,
  respond: Respond = suspend,
  env: Environment = {},
  { line, clock = createJumpingClock(t) }: { line?: Line | undefined; clock?: JumpingClock } = {},
): Promise<Scene> {
  const log = createMemoryLog();
  const metrics = openMetrics(t);
  const calls: string[] = [];
  const socket = await serveMachinesApi(t, (request, response) => {
    calls.push(`${request.method} ${request.headers.host}${request.url}`);
    respond(request, response, scene);
  });
  const settings = {
    FLY_APP_NAME: 'my-app',
    SUSPEND_AFTER: String(AFTER_MS),
    SUSPEND_SOCKET: socket,
    SESSION_STORE_TTL_MS: String(TTL_MS),
    ADMIN_TOKEN: TOKEN,
    ...env,
  };
  const parts = { clock, logger: log.logger, metrics };
  const sidecar = await startTestSidecar(t, await serveSessions(t), settings, parts);
  line?.leadTo(sidecar.ports.peer);
  const url = `http://127.0.0.1:${sidecar.ports.public}`;
  const scene: Scene = { clock, log, metrics, sidecar, url, calls };
  return scene;
}

export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

export const untilLogged = ({ log }: Scene, message: string, count = 1): Promise<void> =>
  until(() => log.lines.filter((line) => line.message === message).length === count);

export const sleepOf = ({ sidecar }: Scene): Partial<SleepStatus> =>
  sidecar.readiness().sleep ?? {};

/** A request of a client, on a connection of its own. */
export async function request(
  url: string,
  init: Omit<RequestInit, 'headers'> & { readonly headers?: Record<string, string> } = {},
): Promise<Response> {
  const headers = { ...THROUGH_EDGE, connection: 'close', ...init.headers };
  return fetch(url, { redirect: 'manual', ...init, headers });
}

const TOKEN = '0123456789abcdef';

/** A request to the admin port. */
export function requestAdmin(
  { ports }: Sidecar,
  path: string,
  init: RequestInit = {},
): Promise<Response> {
  const headers = { authorization: `Bearer ${TOKEN}`, connection: 'close' };
  return fetch(`http://127.0.0.1:${ports.admin}${path}`, { ...init, headers });
}

/** `POST /open/ID` opens a session; `/stream` begins a response. */
function serveSessions(t: TestContext): Promise<number> {
  return serveApp(t, ({ url = '' }, response) => {
    const [, id] = /^\/open\/(.*)/.exec(url) ?? [];
    if (id !== undefined) response.setHeader('mcp-session-id', id);
    if (url === '/stream') response.write('first');
    else response.end('from the app');
  });
}
