/**
 * Lets go of the hooks of a test (`t.after`) once they have run. The test runner keeps each until
 * the process ends, and a hook keeps what it closes: sidecars, servers, sockets. In a process with
 * many files that is more than a gigabyte, and most of the time goes into collecting garbage.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { collectGarbage } from '../../src/collect-garbage.ts';

/** Of all tests that start later in this process. */
export function forgetHooks(): Promise<void> {
  return test('a hook that has run keeps nothing', async (t) => {
    replaceAfter(Object.getPrototypeOf(t) as TestContext);
    const closed = await closedByHook(t);
    await nextTurn();
    collectGarbage();
    assert.equal(closed.deref(), undefined);
  });
}

function replaceAfter(context: TestContext): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its `this` below
  const { after } = context;
  context.after = function (fn, options) {
    let hook = fn;
    const runOnce = async (t: TestContext): Promise<void> => {
      const run = hook;
      hook = undefined;
      await run?.(t, () => undefined);
    };
    after.call(this, runOnce, options);
  };
}

async function closedByHook(t: TestContext): Promise<WeakRef<object>> {
  const { promise, resolve } = Promise.withResolvers<WeakRef<object>>();
  await t.test('that closes a thing', (t) => {
    const thing = { isClosed: false };
    t.after(() => (thing.isClosed = true));
    resolve(new WeakRef(thing));
  });
  return promise;
}
