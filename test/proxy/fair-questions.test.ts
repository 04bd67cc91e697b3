/** A flood of made-up ids costs its sender alone: whole sidecars that ask each other. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent, request, type IncomingMessage } from 'node:http';
import type { Environment } from '../../src/config/config.ts';
import { QUERY_BURST, QUERY_RESERVE } from '../../src/fleet/peers.ts';
import { clockWithLongTimeouts, startRooms, type RoomMachine } from '../support/rooms.ts';

const IDS = ['m1', 'm2'];
const FLOOD = 2_000;
const HEADS = 100;

/** Time stands still for the buckets: nothing is filled again while a test runs. */
const FROZEN = { clock: { ...clockWithLongTimeouts, monotonicMs: () => 0 } };

async function startFlooded(t: TestContext, env: Environment = {}) {
  const rooms = await startRooms(t, IDS, env, FROZEN);
  const [m1] = rooms.machines;
  assert.ok(m1);
  return m1;
}

/** One connection. */
function openClient(t: TestContext, { url }: RoomMachine, headers: Record<string, string> = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ask = (room: string): Promise<{ status: number; body: string }> =>
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
  /** How many of so many new sessions are not shed. */
  const flood = async (name: string, count: number): Promise<number> => {
    let taken = 0;
    for (let i = 0; i < count; i += HEADS) {
      const asked = Array.from({ length: HEADS }, (_, n) => ask(`${name}-${i + n}`));
      taken += (await Promise.all(asked)).filter(({ status }) => status !== 503).length;
    }
    return taken;
  };
  return { ask, flood };
}

test('a connection that asks for 2,000 made-up ids is refused beyond what is not reserved for others, who are served', async (t) => {
  const m1 = await startFlooded(t);
  const taken = await openClient(t, m1).flood('flood', FLOOD);
  assert.equal(taken, QUERY_BURST - QUERY_RESERVE);
  const shed = m1.requests.filter(({ status }) => status === 503);
  assert.deepEqual(
    [shed.length, new Set(shed.map(({ why }) => why))],
    [FLOOD - taken, new Set(['overloaded'])],
  );
  for (let i = 0; i < 10; i += 1) {
    const { status } = await openClient(t, m1).ask(`honest-${i}`);
    assert.ok(status === 200 || status === 307, `${status}`);
  }
  assert.equal((await m1.readiness()).silent, 0, 'what was shed is no silence of the peer');
});

test('behind the edge it is the address of the client that counts, and of IPv6 the network', async (t) => {
  // The name of an app says that this is Fly.io, where the edge sets Fly-Client-IP.
  const m1 = await startFlooded(t, { FLY_APP_NAME: 'shop' });
  const of = (address: string) => openClient(t, m1, { 'fly-client-ip': address });
  const both = await Promise.all([
    of('2001:db8::1').flood('one', FLOOD / 2),
    of('2001:db8:0:0:ffff::2').flood('two', FLOOD / 2),
  ]);
  assert.equal(both[0] + both[1], QUERY_BURST - QUERY_RESERVE);
  assert.equal((await of('2001:db8::3').ask('three')).status, 503);
  assert.notEqual((await of('2001:db8:0:1::1').ask('four')).status, 503);
  assert.notEqual((await of('192.0.2.1').ask('five')).status, 503);
});

test('off Fly.io anyone may write Fly-Client-IP, so it is the connection that counts', async (t) => {
  const m1 = await startFlooded(t);
  const flooder = openClient(t, m1);
  await flooder.flood('flood', FLOOD / 2);
  const forged = openClient(t, m1, { 'fly-client-ip': '192.0.2.1' });
  const taken = await forged.flood('forged', 2 * HEADS);
  assert.equal(taken, HEADS, 'its own share, whatever it writes');
});
