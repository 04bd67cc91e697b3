/**
 * A Machine that learns that a session of its own is another's closes its streams and sockets, and
 * their clients reach the owner: whole sidecars, real clients, and an edge that replays.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { after, describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { SidecarParts } from '../../src/app/app.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { formatEnd, formatSession, HEAD } from '../../src/sessions/format.ts';
import { until } from '../fleet/support.ts';
import { startTestEdge } from '../simulator/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { createKeptLog, type KeptLog, type Line } from '../support/log.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { serve } from '../support/sidecar.ts';

const ADMIN_TOKEN = 'a-token-of-an-operator';
const ID = 'room';
const KEY = keyOf(ID);
const HALF = 'x'.repeat(1_000);

interface App {
  readonly port: number;
  /** The other half of each download that is under way. */
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

interface Machine extends TestMachine, App {
  readonly log: KeptLog;
  /** Lines of the access log: path, status, and why it was broken off. */
  readonly requests: unknown[];
  /** What the counter of releases was told. */
  readonly released: string[];
}

async function startMachine(
  t: TestContext,
  fleet: TestFleet,
  id: string,
  { env = {}, ...given }: Partial<SidecarParts> & { env?: Environment } = {},
): Promise<Machine> {
  const app = await serveApp(t, id);
  const released: string[] = [];
  const metrics = { ...nullMetrics, sessionReleased: (why: string) => void released.push(why) };
  const requests: unknown[] = [];
  const log = createKeptLog((line) => {
    const { path, status, reason } = line as Record<string, unknown>;
    requests.push([path, status, reason]);
  });
  const parts: Partial<SidecarParts> = { metrics, logger: log.logger, random: () => 0, ...given };
  const settings = { ADMIN_TOKEN, SESSION_ID_HINTS: 'false', ...env };
  const machine = await fleet.start(id, app.port, settings, parts);
  return { ...machine, ...app, log, requests, released };
}

function mint({ url }: Machine): Promise<string> {
  return fetch(`${url}/mint`).then((response) => response.text());
}

const SESSION = { 'x-session-id': ID };

interface Stream {
  /** The app that it is a stream of. */
  readonly by: string;
  /** Resolves when it breaks off; rejects if it ends as if complete. */
  readonly broken: Promise<void>;
}

async function openEvents(url: string, headers = {}): Promise<Stream> {
  const response = await fetch(`${url}/events`, { headers: { ...SESSION, ...headers } });
  const reader = response.body?.getReader() ?? assert.fail('no body');
  const { value } = (await reader.read()) as { readonly value?: Uint8Array };
  const broken = reader.read().then(
    () => assert.fail('the stream has ended as if complete'),
    () => undefined,
  );
  broken.catch(() => undefined);
  return { by: /data: (\w+)/.exec(Buffer.from(value ?? []).toString())?.[1] ?? '', broken };
}

async function openSocket(t: TestContext, url: string, headers = {}): Promise<Stream> {
  const socket = new WebSocket(url.replace('http', 'ws'), { headers: { ...SESSION, ...headers } });
  t.after(() => socket.terminate());
  const broken = once(socket, 'close').then(() => undefined);
  const [message] = (await once(socket, 'message')) as [Buffer];
  return { by: message.toString(), broken };
}

function releasesIn({ log }: Machine): Line[] {
  return log.lines.filter(({ message }) => message.startsWith('session released'));
}

function admin(
  { sidecar }: Machine,
  method: string,
  path: string,
  body?: string,
): Promise<Response> {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  const init = { method, headers, ...(body !== undefined && { body }) };
  return fetch(`http://127.0.0.1:${sidecar.ports.admin}${path}`, init);
}

/** What an import says of the session: it belongs to that Machine now. */
function movedTo(id: string): string {
  const now = Date.now();
  const binding = {
    ...{ key: KEY, machine: machineId(id), origin: 'learned' as const, generation: 5 },
    ...{ createdAt: now, expiresAt: now + 600_000 },
  };
  return [HEAD, formatSession(binding), formatEnd(1), ''].join('\n');
}

/** Both own the session: the older claim is that of `a`. */
async function startSplit(t: TestContext) {
  const fleet = await openFleet(t, 'a', 'b');
  const later = { ...systemClock, now: () => systemClock.now() + 60_000 };
  const a = await startMachine(t, fleet, 'a');
  const b = await startMachine(t, fleet, 'b', { clock: later });
  const cut = (): void => {
    for (const line of fleet.lines.values()) line.leadTo(undefined);
  };
  const reconnect = (): void => {
    for (const { id, sidecar } of [a, b]) fleet.lines.get(id)?.leadTo(sidecar.ports.peer);
  };
  cut();
  for (const machine of [a, b]) await mint(machine);
  return { a, b, reconnect };
}

function startEdgeBefore(t: TestContext, machines: readonly Machine[]) {
  return startTestEdge(
    t,
    machines.map(({ id, sidecar }) => ({
      ...{ id: machineId(id), app: 'shop', region: 'iad', state: 'started' as const },
      ...{ port: sidecar.ports.public, wake: () => Promise.resolve() },
    })),
  );
}

describe('two Machines that both own a session', () => {
  for (const speaker of ['a', 'b'] as const) {
    test(`end with one when they hear each other, ${speaker} first: the clients of the loser reach the winner`, async (t) => {
      const { a, b, reconnect } = await startSplit(t);
      const edge = await startEdgeBefore(t, [a, b]);
      const preferred = { 'fly-prefer-instance-id': 'b' };
      const kept = await openEvents(a.url);
      const lost = [await openEvents(b.url), await openSocket(t, b.url)];
      assert.deepEqual([kept.by, ...lost.map(({ by }) => by)], ['a', 'b', 'b']);
      const download = await fetch(`${b.url}/download`, { headers: SESSION });

      reconnect();
      await mint(speaker === 'a' ? a : b);
      await Promise.all(lost.map(({ broken }) => broken));

      for (const response of b.downloads) response.end(HALF);
      assert.equal((await download.text()).length, 2 * HALF.length);
      const again = [
        await openEvents(edge.url, preferred),
        await openSocket(t, edge.url, preferred),
      ];
      assert.deepEqual(
        again.map(({ by }) => by),
        ['a', 'a'],
      );
      const fields = { session: KEY, owner: 'a', why: 'outranked', streams: 2 };
      const message = 'session released: another Machine owns it';
      assert.deepEqual(releasesIn(b), [{ level: 'warn', fields, message }]);
      assert.deepEqual([b.released, a.released, releasesIn(a)], [['outranked'], [], []]);
    });
  }
});

describe('a session that an operator', () => {
  async function startAlone(t: TestContext): Promise<Machine> {
    const machine = await startMachine(t, await openFleet(t, 'a', 'b'), 'a');
    await mint(machine);
    return machine;
  }

  test('deletes loses its streams and sockets', async (t) => {
    const machine = await startAlone(t);
    const streams = [await openEvents(machine.url), await openSocket(t, machine.url)];
    assert.equal((await admin(machine, 'DELETE', `/sessions/${KEY}`)).status, 204);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual(
      releasesIn(machine).map(({ message, fields }) => [message, fields]),
      [
        [
          'session released: it was deleted',
          { session: KEY, owner: undefined, why: 'deleted', streams: 2 },
        ],
      ],
    );
    assert.deepEqual(machine.released, ['deleted']);
    assert.deepEqual(machine.requests.slice(-2), [
      ['/events', 200, 'the session was deleted'],
      ['/', 101, 'the session was deleted'],
    ]);
  });

  test('moves to another Machine loses them too, and a dry run closes nothing', async (t) => {
    const machine = await startAlone(t);
    const { broken } = await openSocket(t, machine.url);
    const dry = await admin(machine, 'POST', '/sessions?dry-run=true', movedTo('b'));
    assert.equal(dry.status, 200);
    assert.deepEqual(machine.released, []);
    assert.equal((await admin(machine, 'POST', '/sessions', movedTo('b'))).status, 200);
    await broken;
    assert.deepEqual(machine.released, ['moved']);
  });

  test('deletes at a Machine that only has a copy of it keeps its streams', async (t) => {
    const fleet = await openFleet(t, 'a', 'b');
    const [a, b] = [await startMachine(t, fleet, 'a'), await startMachine(t, fleet, 'b')];
    await mint(a);
    await until(async () => (await admin(b, 'GET', `/sessions/${KEY}`)).status === 200);
    assert.equal((await admin(b, 'DELETE', `/sessions/${KEY}`)).status, 204);
    assert.deepEqual([a.released, b.released], [[], []]);
  });
});

test('a sidecar that stops while streams are being closed leaves no timer behind', async (t) => {
  const fleet = await openFleet(t, 'a', 'b');
  const pending = new Set<object>();
  const after: Clock['after'] = (ms, fn) => {
    const token = {};
    const done = (): void => void pending.delete(token);
    const cancel = systemClock.after(ms, () => {
      done();
      fn();
    });
    pending.add(token);
    return () => {
      done();
      cancel();
    };
  };
  const clock = { ...systemClock, after };
  const machine = await startMachine(t, fleet, 'a', { clock, random: () => 0.999 });
  await mint(machine);
  const { broken } = await openSocket(t, machine.url);
  assert.equal((await admin(machine, 'DELETE', `/sessions/${KEY}`)).status, 204);
  assert.ok(pending.size > 0);
  await machine.sidecar.stop();
  await broken;
  assert.equal(pending.size, 0);
});

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  /** So short that the rows are looked up twice a second. */
  const SESSION_STORE_TTL_MS = '2000';

  async function startSharing(t: TestContext, namespace: string) {
    const { url } = await server;
    const shared = { SESSION_STORE_URL: url, SESSION_STORE_NAMESPACE: namespace };
    const env = { ...shared, SESSION_STORE_TTL_MS };
    const fleet = await openFleet(t, 'a', 'b');
    const a = await startMachine(t, fleet, 'a', { env });
    const b = await startMachine(t, fleet, 'b', { env });
    await mint(a);
    return { a, b, streams: [await openEvents(a.url), await openSocket(t, a.url)] };
  }

  test('a session in a shared store is released by its Machine when another has its row', async (t) => {
    const { a, b, streams } = await startSharing(t, 'let-go-moved');
    assert.equal((await admin(b, 'POST', '/sessions', movedTo('b'))).status, 200);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual([a.released, b.released], [['moved'], []]);
    const fields = { session: KEY, owner: 'b', why: 'moved', streams: 2 };
    assert.deepEqual(
      releasesIn(a).map((line) => line.fields),
      [fields],
    );
  });

  test('a session in a shared store is released by its Machine when it was deleted at another', async (t) => {
    const { a, b, streams } = await startSharing(t, 'let-go-deleted');
    assert.equal((await admin(b, 'DELETE', `/sessions/${KEY}`)).status, 204);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual([a.released, b.released], [['deleted'], []]);
  });
});
