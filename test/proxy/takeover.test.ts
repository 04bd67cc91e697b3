/** Two Machines take the session of one that is gone, at once, each with a file of its own. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { KEY } from '../fleet/support.ts';
import { createPlace } from '../store/place.ts';
import {
  endWithOneOwner,
  GONE,
  knowOfTheGone,
  ownerIn,
  startTakers,
  type Taker,
} from './takeover-support.ts';

/** Each with a file of its own. */
async function startApart(t: TestContext): Promise<readonly Taker[]> {
  const place = await createPlace(t);
  const open = (machine: MachineId): Promise<SessionStore> =>
    place.open({ path: place.path(machine) });
  return startTakers(t, open, (closeable) => place.closeAfterwards(closeable));
}

describe('two Machines that take over at once end with one owner', () => {
  test('with a file each: what both knew to be the session of the one that is gone', async (t) => {
    const takers = await startApart(t);
    for (const taker of takers) await knowOfTheGone(taker, 'copied');
    for (const { bindings } of takers) void bindings.claim(KEY, GONE);
    await endWithOneOwner(takers, 2);
  });

  test('with a file each: an id of a client that neither has heard of', async (t) => {
    const takers = await startApart(t);
    for (const { bindings } of takers) void bindings.claim(KEY, undefined);
    await endWithOneOwner(takers, 1);
  });

  test('with a file each: one that knew of it and one that had but a hint', async (t) => {
    const takers = await startApart(t);
    const [first, second] = takers;
    assert.ok(first && second);
    await knowOfTheGone(first, 'copied');
    void first.bindings.claim(KEY, GONE);
    void second.bindings.claim(KEY, undefined);
    await endWithOneOwner(takers, 2);
    assert.equal(ownerIn(await second.store.lookup(KEY)), first.machine);
  });
});
