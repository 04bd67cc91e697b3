/** A flood of invented ids affects only its sender: complete sidecars that query each other. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent, request, type IncomingMessage } from 'node:http';
import type { Environment } from '../../src/config/config.ts';
import { QUERY_BURST, QUERY_RESERVE } from '../../src/fleet/peers.ts';
import { clockWithLongTimeouts, startRooms, type RoomMachine } from '../support/rooms.ts';

const IDS = ['m1', 'm2'];
const FLOOD_COUNT = 2_000;
const BATCH = 100;

/** A frozen clock for the rate limiter: no tokens are added during a test. */
const FROZEN = { clock: { ...clockWithLongTimeouts, monotonicMs: () => 0 } };

async function startM1(t: TestContext, env: Environment = {}) {
  const rooms = await startRooms(t, IDS, env, FROZEN);
  const [m1] = rooms.machines;
  assert.ok(m1);
  return m1;
}

/** A client with one connection. */
function openClient(t: TestContext, { url }: RoomMachine, headers: Record<string, string> = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const requestRoom = (room: string): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const sent = request(`${url}/?room=${room}`, { agent, headers });
      sent.on('error', reject);
      sent.on('response', (response: IncomingMessage) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      sent.end();
    });
  /** Requests `count` new sessions and returns how many were accepted. */
  const flood = async (name: string, count: number): Promise<number> => {
    let accepted = 0;
    for (let i = 0; i < count; i += BATCH) {
      const pending = Array.from({ length: BATCH }, (_, n) => requestRoom(`${name}-${i + n}`));
      accepted += (await Promise.all(pending)).filter(({ status }) => status !== 503).length;
    }
    return accepted;
  };
  return { requestRoom, flood };
}

test('a connection with 2,000 invented ids gets 503 beyond its share, and other connections are served', async (t) => {
  const m1 = await startM1(t);
  const accepted = await openClient(t, m1).flood('flood', FLOOD_COUNT);
  assert.equal(accepted, QUERY_BURST - QUERY_RESERVE);
  const shed = m1.requests.filter(({ status }) => status === 503);
  assert.deepEqual(
    [shed.length, new Set(shed.map(({ why }) => why))],
    [FLOOD_COUNT - accepted, new Set(['overloaded'])],
  );
  for (let i = 0; i < 10; i += 1) {
    const { status } = await openClient(t, m1).requestRoom(`honest-${i}`);
    assert.ok(status === 200 || status === 307, `${status}`);
  }
  assert.equal((await m1.readiness()).silent, 0, 'shed queries do not make the peer unresponsive');
});

test('behind the edge the limit is per client address, and per network for IPv6', async (t) => {
  // An app name means that this is Fly.io, where the edge sets Fly-Client-IP.
  const m1 = await startM1(t, { FLY_APP_NAME: 'shop' });
  const of = (address: string) => openClient(t, m1, { 'fly-client-ip': address });
  const both = await Promise.all([
    of('2001:db8::1').flood('one', FLOOD_COUNT / 2),
    of('2001:db8:0:0:ffff::2').flood('two', FLOOD_COUNT / 2),
  ]);
  assert.equal(both[0] + both[1], QUERY_BURST - QUERY_RESERVE);
  assert.equal((await of('2001:db8::3').requestRoom('three')).status, 503);
  assert.notEqual((await of('2001:db8:0:1::1').requestRoom('four')).status, 503);
  assert.notEqual((await of('192.0.2.1').requestRoom('five')).status, 503);
});

test('outside Fly.io the limit is per connection, because anyone may write Fly-Client-IP', async (t) => {
  const m1 = await startM1(t);
  const flooder = openClient(t, m1);
  await flooder.flood('flood', FLOOD_COUNT / 2);
  const forged = openClient(t, m1, { 'fly-client-ip': '192.0.2.1' });
  const accepted = await forged.flood('forged', 2 * BATCH);
  assert.equal(accepted, BATCH, 'its own share, whatever the header is');
});
