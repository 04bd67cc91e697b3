/** A new session is placed on a Machine that has just gone down: the Machine that serves it may not reject it for good. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import type { Environment } from '../../src/config/config.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

const IDS = ['m1', 'm2'];
const UNDELIVERED = { 'fly-replay-failed': 'instance=m2;reason=machine_failed_to_start' };

/** An id that is placed on `m2`. */
const SESSION =
  Array.from({ length: 100 }, (_, index) => `session-${index}`).find(
    (id) => rendezvousWinner(keyOf(id), IDS.map(machineId)) === 'm2',
  ) ?? assert.fail();

test('returns 503 if the app does not know the session', async (t) => {
  const { m1 } = await startM1(t, {});
  assert.equal(await statusOf(m1, '/unknown'), 503);
});

test('binds the session if the app accepts it', async (t) => {
  const { m1 } = await startM1(t, {});
  assert.equal(await statusOf(m1, '/'), 200);
  assert.equal(await m1.rowCount(), 1);
});

test('returns 503 and binds nothing if UNKNOWN_SESSION is reject', async (t) => {
  const { m1 } = await startM1(t, { UNKNOWN_SESSION: 'reject' });
  assert.equal(await statusOf(m1, '/'), 503);
  assert.equal(await m1.rowCount(), 0);
});

async function startM1(t: TestContext, settings: Environment): Promise<{ m1: TestMachine }> {
  const fleet = await openFleet(t, ...IDS);
  const start = async (id: string): Promise<TestMachine> => {
    const port = await serveApp(t, ({ url }, response) => {
      response.writeHead(url === '/unknown' ? 404 : 200).end(id);
    });
    return fleet.start(id, port, { SESSION_PROTOCOLS: 'rpc', ...settings });
  };
  await start('m2');
  const m1 = await start('m1');
  fleet.lines.get('m2')?.refuse();
  return { m1 };
}

/** Sends a request that the edge returned. */
async function statusOf(machine: TestMachine, path: string): Promise<number> {
  const headers = { 'x-session-id': SESSION, ...UNDELIVERED };
  const response = await fetch(machine.url + path, { headers, redirect: 'manual' });
  await response.body?.cancel();
  return response.status;
}
