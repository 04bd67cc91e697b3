import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectGarbage } from '../src/collect-garbage.ts';

test('what nobody holds any more is collected, and what is held stays', async () => {
  const held = { left: 1 };
  const [lost, kept] = [new WeakRef({ left: 1 }), new WeakRef(held)];
  // A reference that has just been made is kept until the turn is over.
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  assert.equal(lost.deref(), undefined);
  assert.equal(kept.deref(), held);
});

test('nobody else can collect garbage afterwards', () => {
  collectGarbage();
  assert.equal('gc' in globalThis, false);
});
