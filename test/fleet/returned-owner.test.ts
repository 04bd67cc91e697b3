/**
 * Two Machines with real sidecars: each store names its own Machine, and the announcements were
 * lost.
 */
import { test } from 'node:test';
import type { BindingOrigin } from '../../src/session.ts';
import { parseReplay } from '../../src/fly.ts';
import { until } from '../e2e/support/until.ts';
import { createPlace } from '../store/place.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

type Row = readonly [origin: BindingOrigin, generation: number];

/**
 * The bindings on `m1`, which keeps running, and on `m2`, which comes back, and the owner that both
 * must agree on.
 */
const SESSIONS: Readonly<Record<string, readonly [here: Row, back: Row, owner: string]>> = {
  'taken-over': [['adopted', 2], ['learned', 1], 'm1'],
  'taken-back': [['learned', 1], ['adopted', 2], 'm2'],
  'begun-twice': [['learned', 1], ['adopted', 1], 'm1'],
};

test('a Machine that comes back and the one that took over its sessions agree on their owners', async (t) => {
  const fleet = await openFleet(t, 'm1', 'm2');
  const place = await createPlace(t);
  const start = async (id: string, which: 0 | 1): Promise<TestMachine> => {
    const path = place.path(`${id}.sqlite`);
    const store = await place.open({ path });
    for (const [session, rows] of Object.entries(SESSIONS)) {
      const [origin, generation] = rows[which];
      const machine = machineId(id);
      await store.upsert({ key: keyOf(session), machine, origin, generation, ttlMs: 600_000 });
    }
    await store.close();
    const port = await serveApp(t, (_, response) => response.end(id));
    const env = { SESSION_PROTOCOLS: 'mcp', SESSION_STORE_URL: '', SESSION_STORE_PATH: path };
    return fleet.start(id, port, env);
  };
  const m1 = await start('m1', 0);
  const m2 = await start('m2', 1);
  await until(async () => {
    const wrong = [];
    for (const [session, [, , owner]] of Object.entries(SESSIONS))
      for (const machine of [m1, m2]) {
        const reported = await ownerOf(machine, session);
        if (reported !== owner) wrong.push(`${session}: ${reported} by ${machine.id}`);
      }
    return wrong;
  }, 10_000);
});

async function ownerOf(machine: TestMachine, session: string): Promise<string> {
  const headers = { 'mcp-session-id': session };
  const response = await fetch(`${machine.url}/`, { headers, redirect: 'manual' });
  const text = await response.text();
  return parseReplay(response.headers.get('fly-replay') ?? '')?.instance ?? text;
}
