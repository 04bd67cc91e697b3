/** Two Machines, each with its own file store, concurrently take over the session of a Machine that is gone. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { KEY } from '../fleet/support.ts';
import { createPlace } from '../store/place.ts';
import {
  assertOneOwner,
  GONE,
  storeRowOfGone,
  ownerIn,
  startTakers,
  type Taker,
} from './takeover-support.ts';

/** Each Machine has its own file store. */
async function startApart(t: TestContext): Promise<readonly Taker[]> {
  const place = await createPlace(t);
  const open = (machine: MachineId): Promise<SessionStore> =>
    place.open({ path: place.path(machine) });
  return startTakers(t, open, (closeable) => place.closeAfterwards(closeable));
}

describe('two Machines that take over concurrently end with one owner', () => {
  test('with a file each: both have a row of the Machine that is gone', async (t) => {
    const takers = await startApart(t);
    for (const taker of takers) await storeRowOfGone(taker, 'copied');
    for (const { bindings } of takers) void bindings.claim(KEY, GONE, 'rpc');
    await assertOneOwner(takers, 2);
  });

  test('with a file each: neither has a row of an id that a client mints', async (t) => {
    const takers = await startApart(t);
    for (const { bindings } of takers) void bindings.claim(KEY, undefined, 'rpc');
    await assertOneOwner(takers, 1);
  });

  test('with a file each: one has a row and the other only a hint', async (t) => {
    const takers = await startApart(t);
    const [first, second] = takers;
    assert.ok(first && second);
    await storeRowOfGone(first, 'copied');
    void first.bindings.claim(KEY, GONE, 'rpc');
    void second.bindings.claim(KEY, undefined, 'rpc');
    await assertOneOwner(takers, 2);
    assert.equal(ownerIn(await second.store.lookup(KEY)), first.machine);
  });
});
