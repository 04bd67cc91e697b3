/**
 * Fault 8: tunnels whose ends closed at the wrong moment stayed open and counted as open forever. However
 * the two ends close, no resource of the tunnel is left, and the bytes before a FIN arrive.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Environment } from '../../../src/config/config.ts';
import type { Sidecar } from '../../../src/app/lifecycle.ts';
import type { Metrics } from '../../../src/observability/metrics.ts';
import { QUIET_MS } from '../../../src/proxy/request-record.ts';
import { createTestClock } from '../../support/clock.ts';
import { openFleet } from '../../support/fleet.ts';
import { openMetrics } from '../../support/metrics.ts';
import { openClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  eventually,
  get,
  readResponses,
  untilArrived,
  UPGRADE_FIELDS,
} from './support.ts';

/** Several concurrent tunnels, because most of this depends on timing. */
const TUNNELS = 10;
/** A long drain timeout: a drain waits longer for open streams than for the client of the last request. */
const PATIENT = { DRAIN_TIMEOUT_MS: '60000' };

const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

/** One end of a tunnel. On a FIN of the other end it sends `goodbye` and closes. */
interface End {
  readonly socket: Socket;
  /** Everything received, including the head. */
  readonly received: () => string;
  /** A FIN was received. */
  readonly hasEnded: () => boolean;
  readonly isClosed: () => boolean;
}

interface Tunnel {
  readonly client: End;
  readonly app: End;
}

const GOODBYE = 'goodbye';

function endOf(socket: Socket, received: () => string): End {
  let [hasEnded, isClosed] = [false, false];
  socket.allowHalfOpen = true;
  socket.on('error', () => undefined);
  socket.on('end', () => {
    hasEnded = true;
    if (!socket.writableEnded) socket.end(GOODBYE);
  });
  socket.on('close', () => (isClosed = true));
  return { socket, received, hasEnded: () => hasEnded, isClosed: () => isClosed };
}

/** Calls `onRequest` with the app's end of each tunnel when its request arrives, before any response. */
async function serveTunnelApp(
  t: TestContext,
  onRequest: (path: string, app: End) => void,
): Promise<number> {
  const received = new Map<Socket, string>();
  return serveRawApp(t, (socket, packet) => {
    const before = received.get(socket);
    received.set(socket, (before ?? '') + packet);
    if (before !== undefined) return;
    const app = endOf(socket, () => received.get(socket) ?? '');
    onRequest(/^GET (\S+) /.exec(packet)?.[1] ?? '', app);
  });
}

/** Connects a client and sends the request of a tunnel. */
async function openClientEnd(t: TestContext, port: number, request: string): Promise<End> {
  const client = await openClient(t, port);
  const end = endOf(client.socket, () => client.received());
  client.send(request);
  return end;
}

const bytesOfApp = ({ app }: Tunnel): string => app.received().split('\r\n\r\n').slice(1).join('');
const bytesOfClient = ({ client }: Tunnel): string => readResponses(client.received()).rest;
const isOpen = ({ client }: Tunnel): boolean =>
  readResponses(client.received()).responses[0]?.status === 101;

/** A client whose upgrade is rejected closes its side. */
function closeIfRejected({ client }: Tunnel): void {
  const [response] = readResponses(client.received()).responses;
  if (response && response.status !== 101 && !client.socket.writableEnded) client.socket.end();
}

const isOver = (tunnel: Tunnel): boolean => {
  closeIfRejected(tunnel);
  return tunnel.client.isClosed() && tunnel.app.isClosed();
};

/** How one end closes, with bytes in flight. */
type Close = 'FIN' | 'RST';

function close({ socket }: End, kind: Close | undefined, bytes: Buffer): void {
  if (kind === undefined) return;
  socket.write(bytes);
  if (kind === 'FIN') socket.end();
  else socket.resetAndDestroy();
}

interface Closing {
  readonly name: string;
  readonly client?: Close;
  readonly app?: Close;
}

const CLOSINGS: readonly Closing[] = [
  { name: 'a FIN of the client', client: 'FIN' },
  { name: 'a RST of the client', client: 'RST' },
  { name: 'a FIN of the app', app: 'FIN' },
  { name: 'a RST of the app', app: 'RST' },
  { name: 'a FIN of both', client: 'FIN', app: 'FIN' },
  { name: 'a FIN of the client and a RST of the app', client: 'FIN', app: 'RST' },
  { name: 'a RST of the client and a FIN of the app', client: 'RST', app: 'FIN' },
  { name: 'a RST of both', client: 'RST', app: 'RST' },
];

interface Tunnels {
  /** The sidecar that the clients connect to. */
  readonly sidecar: Sidecar;
  readonly tunnels: readonly Tunnel[];
}

interface Moment {
  readonly name: string;
  /** Brings the tunnels to this moment and closes them. */
  readonly close: (opened: Tunnels, closing: Closing, size: number) => Promise<void>;
}

const [CLIENT_LETTER, APP_LETTER] = ['c', 'a'];

/** As bytes, which are written without a copy. */
const bytesOf = (letter: string, size: number): Buffer => Buffer.alloc(size, letter);

function closeBoth({ client, app }: Tunnel, closing: Closing, size: number): void {
  close(client, closing.client, bytesOf(CLIENT_LETTER, size));
  close(app, closing.app, bytesOf(APP_LETTER, size));
}

function accept({ app }: Tunnel): void {
  if (app.socket.writable) app.socket.write(SWITCH);
}

/**
 * The FIN or RST of the client arrives before the 101. The sidecar sees both in the same turn, or
 * `turns` turns apart.
 */
async function closeThenAccept(
  tunnel: Tunnel,
  closing: Closing,
  size: number,
  turns: number,
): Promise<void> {
  const { client, app } = tunnel;
  close(client, closing.client, bytesOf(CLIENT_LETTER, size));
  if (closing.client === 'FIN') await finished(client.socket, { readable: false });
  for (let turn = 0; turn < turns; turn += 1) await nextTurn();
  accept(tunnel);
  close(app, closing.app, bytesOf(APP_LETTER, size));
}

const MOMENTS: readonly Moment[] = [
  {
    name: 'before the 101',
    close: async ({ sidecar, tunnels }, closing, size) => {
      for (const tunnel of tunnels) closeBoth(tunnel, closing, size);
      await untilArrived(sidecar);
      tunnels.forEach(accept);
    },
  },
  {
    name: 'right before the 101',
    close: async ({ tunnels }, closing, size) => {
      await Promise.all(tunnels.map((tunnel, i) => closeThenAccept(tunnel, closing, size, i)));
    },
  },
  {
    name: 'while the 101 is in flight',
    close: async ({ tunnels }, closing, size) => {
      for (const tunnel of tunnels) {
        accept(tunnel);
        closeBoth(tunnel, closing, size);
      }
      return Promise.resolve();
    },
  },
  {
    name: 'right after the 101',
    close: async ({ sidecar, tunnels }, closing, size) => {
      tunnels.forEach(accept);
      for (const tunnel of tunnels) {
        await eventually(sidecar, () => isOpen(tunnel), 'the client has its 101');
        closeBoth(tunnel, closing, size);
      }
    },
  },
  {
    name: 'in the middle of the stream',
    close: async ({ sidecar, tunnels }, closing, size) => {
      tunnels.forEach(accept);
      for (const tunnel of tunnels) {
        await eventually(sidecar, () => isOpen(tunnel), 'the client has its 101');
        tunnel.client.socket.write(CLIENT_LETTER);
        tunnel.app.socket.write(APP_LETTER);
        const isUnderWay = (): boolean => bytesOfApp(tunnel) + bytesOfClient(tunnel) === 'ca';
        await eventually(sidecar, isUnderWay, 'bytes pass both ways');
      }
      for (const tunnel of tunnels) closeBoth(tunnel, closing, size);
    },
  },
];

/** The number of open WebSockets in the Prometheus metrics. */
async function countOf(metrics: Metrics): Promise<number> {
  const text = await metrics.render();
  return Number(/^fly_affinity_open_streams\{kind="websocket"\} (\d+)$/m.exec(text)?.[1]);
}

/** Requests tunnels that the app has not accepted yet. */
async function openTunnels(
  t: TestContext,
  start: (appPort: number) => Promise<Sidecar>,
  ...fields: string[]
): Promise<Tunnels> {
  const apps = new Map<string, End>();
  const sidecar = await start(await serveTunnelApp(t, (path, app) => apps.set(path, app)));
  const tunnels: Tunnel[] = [];
  for (let i = 0; i < TUNNELS; i += 1) {
    const request = get(`/${i}`, ...UPGRADE_FIELDS, ...fields);
    const client = await openClientEnd(t, sidecar.ports.public, request);
    await eventually(sidecar, () => apps.has(`/${i}`), 'the request reaches the app');
    tunnels.push({ client, app: apps.get(`/${i}`) ?? assert.fail() });
  }
  return { sidecar, tunnels };
}

/** No connection is open and no tunnel is counted. */
async function assertReleased({ sidecar, tunnels }: Tunnels, metrics: Metrics): Promise<void> {
  await eventually(sidecar, () => tunnels.every(isOver), 'both ends of all tunnels are closed');
  const isNoneCounted = async (): Promise<boolean> => (await countOf(metrics)) === 0;
  await eventually(sidecar, isNoneCounted, 'no WebSocket is counted as open');
}

for (const moment of MOMENTS) {
  describe(`${moment.name} no resource of a tunnel is left after`, () => {
    for (const closing of CLOSINGS) {
      for (const size of [0, 10, 300_000]) {
        test(`${closing.name}, with ${size} bytes in flight`, BOUNDED, async (t) => {
          const metrics = openMetrics(t);
          const clock = createTestClock();
          const opened = await openTunnels(t, (app) =>
            startTestSidecar(t, app, PATIENT, { metrics, clock }),
          );
          await moment.close(opened, closing, size);
          await assertReleased(opened, metrics);
          // An open tunnel would delay the drain for a minute.
          const drained = opened.sidecar.drain();
          await clock.advance(QUIET_MS);
          await drained;
        });
      }
    }
  });
}

describe('the bytes of a tunnel that closes with a FIN', () => {
  /** Everything that an end sends. An end that does not close first sends `goodbye`. */
  function sentBy(moment: Moment, kind: Close | undefined, letter: string, size: number): string {
    const greeting = moment.name === 'in the middle of the stream' ? letter : '';
    return greeting + (kind ? letter.repeat(size) : GOODBYE);
  }

  for (const moment of MOMENTS) {
    for (const closing of CLOSINGS.filter((each) => each.client !== 'RST' && each.app !== 'RST')) {
      // Before its 101 the app has no tunnel to write to.
      if (closing.app !== undefined && moment.name === 'before the 101') continue;
      for (const size of [10, 300_000]) {
        test(`all arrive: ${size} bytes, ${closing.name}, ${moment.name}`, BOUNDED, async (t) => {
          const opened = await openTunnels(t, (app) => startTestSidecar(t, app));
          await moment.close(opened, closing, size);
          await eventually(opened.sidecar, () => opened.tunnels.every(isOver), 'all are over');
          const ofClient = sentBy(moment, closing.client, CLIENT_LETTER, size);
          const ofApp = sentBy(moment, closing.app, APP_LETTER, size);
          for (const tunnel of opened.tunnels) assertReceived(tunnel, ofClient, ofApp);
        });
      }
    }
  }

  function assertReceived(tunnel: Tunnel, ofClient: string, ofApp: string): void {
    const [app, client] = [bytesOfApp(tunnel), bytesOfClient(tunnel)];
    assert.deepEqual([app.length, client.length], [ofClient.length, ofApp.length]);
    assert.ok(app === ofClient && client === ofApp);
    assert.ok(tunnel.client.hasEnded() && tunnel.app.hasEnded(), 'with a FIN');
  }
});

/** A file store, in which a commit takes some turns of the event loop. */
function storeOnDisk(t: TestContext): Environment {
  const directory = mkdtempSync(join(tmpdir(), 'fly-affinity-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return { SESSION_STORE_URL: '', SESSION_STORE_PATH: join(directory, 'sessions.sqlite') };
}

describe('while a binding is committed, no resource of a tunnel is left after', () => {
  const moments = MOMENTS.filter(({ name }) => /^right before|^while/.test(name));
  for (const moment of moments) {
    for (const closing of CLOSINGS.filter(({ client, app }) => client !== app)) {
      test(`${closing.name}, ${moment.name}`, BOUNDED, async (t) => {
        const metrics = openMetrics(t);
        const env = storeOnDisk(t);
        // The client sends the id, and the 101 accepts it.
        const session = 'X-Session-Id: mine';
        const opened = await openTunnels(
          t,
          (app) => startTestSidecar(t, app, env, { metrics }),
          session,
        );
        await moment.close(opened, closing, 10);
        await assertReleased(opened, metrics);
      });
    }
  }
});

/** Headers of a request that the edge could not deliver, so that it is forwarded over the private network. */
const FORWARDED = [
  'Mcp-Session-Id: abc~m1',
  'fly-replay-failed: instance=m1;app=a;region=ams;replay_source=m2;reason=timeout;elapsed_ms=1',
];

for (const moment of MOMENTS) {
  describe(`${moment.name} no resource of a forwarded tunnel is left after`, () => {
    for (const closing of CLOSINGS) {
      test(closing.name, BOUNDED, async (t) => {
        const [ofOwner, ofOther] = [openMetrics(t), openMetrics(t)];
        const fleet = await openFleet(t, 'm1', 'm2');
        const start = async (app: number): Promise<Sidecar> => {
          await fleet.start('m1', app, {}, { metrics: ofOwner });
          return (await fleet.start('m2', app, {}, { metrics: ofOther })).sidecar;
        };
        const opened = await openTunnels(t, start, ...FORWARDED);
        await moment.close(opened, closing, 300_000);
        for (const metrics of [ofOwner, ofOther]) await assertReleased(opened, metrics);
      });
    }
  });
}

test('a tunnel is counted from its 101 until both ends are closed', BOUNDED, async (t) => {
  const metrics = openMetrics(t);
  const opened = await openTunnels(t, (app) => startTestSidecar(t, app, {}, { metrics }));
  const { sidecar, tunnels } = opened;
  assert.equal(await countOf(metrics), 0);
  tunnels.forEach(accept);
  await eventually(sidecar, () => tunnels.every(isOpen), 'all clients have their 101');
  assert.equal(await countOf(metrics), TUNNELS);
  for (const { client } of tunnels) client.socket.end();
  await assertReleased(opened, metrics);
});
