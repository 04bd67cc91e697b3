import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectGarbage } from '../src/collect-garbage.ts';

test('an unreferenced object is collected, and a referenced one stays', async () => {
  const held = { left: 1 };
  const [lost, kept] = [new WeakRef({ left: 1 }), new WeakRef(held)];
  // A new reference is kept until the end of the turn.
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  assert.equal(lost.deref(), undefined);
  assert.equal(kept.deref(), held);
});

test('no other code can collect garbage afterwards', () => {
  collectGarbage();
  assert.equal('gc' in globalThis, false);
});
