/** A new session is placed on a Machine that has just gone down: who came in its place may not speak for it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import type { Environment } from '../../src/config/config.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

const IDS = ['m1', 'm2'];
const BACK = { 'fly-replay-failed': 'instance=m2;reason=machine_failed_to_start' };

/** New sessions of it are placed on `m2`. */
const SESSION =
  Array.from({ length: 100 }, (_, index) => `session-${index}`).find(
    (id) => rendezvousWinner(keyOf(id), IDS.map(machineId)) === 'm2',
  ) ?? assert.fail();

test('an app that does not know the session takes it from no client', async (t) => {
  const { m1 } = await startScene(t, {});
  assert.equal(await statusOf(m1, '/unknown'), 503);
});

test('an app that accepts it begins it', async (t) => {
  const { m1 } = await startScene(t, {});
  assert.equal(await statusOf(m1, '/'), 200);
  assert.equal(await m1.rowCount(), 1);
});

test('where unknown sessions are refused it is begun nowhere', async (t) => {
  const { m1 } = await startScene(t, { UNKNOWN_SESSION: 'reject' });
  assert.equal(await statusOf(m1, '/'), 503);
  assert.equal(await m1.rowCount(), 0);
});

async function startScene(t: TestContext, settings: Environment): Promise<{ m1: TestMachine }> {
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

/** The edge has brought the request back. */
async function statusOf(machine: TestMachine, path: string): Promise<number> {
  const headers = { 'x-session-id': SESSION, ...BACK };
  const response = await fetch(machine.url + path, { headers, redirect: 'manual' });
  await response.body?.cancel();
  return response.status;
}
