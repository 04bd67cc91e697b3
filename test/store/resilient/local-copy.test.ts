/** The known contents of a store while the store is unavailable. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Binding, BindingOrigin, SessionKey } from '../../../src/session.ts';
import { createLocalCopy, type LocalCopy } from '../../../src/store/resilient/local-copy.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, keysOf } from '../../support/ids.ts';
import { A, B, KEY, TTL_MS } from '../resilient-world.ts';

const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };

function start(room = 1_000, limits = LIMITS): { clock: TestClock; localCopy: LocalCopy } {
  const clock = createTestClock();
  return { clock, localCopy: createLocalCopy(clock, limits, room) };
}

function binding(
  clock: TestClock,
  key: SessionKey = KEY,
  origin: BindingOrigin = 'learned',
): Binding {
  const now = clock.now();
  return { key, machine: A, origin, generation: 1, createdAt: now, expiresAt: now + TTL_MS };
}

async function listed(localCopy: LocalCopy): Promise<SessionKey[]> {
  const found: SessionKey[] = [];
  for await (const { key } of localCopy.entries()) found.push(key);
  return found;
}

describe('the local copy', () => {
  test('returns the bindings that it received, until they expire', async () => {
    const { clock, localCopy } = start();
    const known = binding(clock);
    localCopy.remember(known);
    assert.equal(localCopy.find(KEY), known);
    await clock.advance(TTL_MS - 1);
    assert.equal(localCopy.find(KEY), known);
    await clock.advance(1);
    assert.equal(localCopy.find(KEY), undefined);
    assert.deepEqual(await listed(localCopy), []);
    assert.equal(localCopy.count(), 1);
    assert.equal(await localCopy.cleanup(), 1);
    assert.equal(localCopy.count(), 0);
  });

  test('drops a key on request, and all keys when it is cleared', () => {
    const { clock, localCopy } = start();
    localCopy.remember(binding(clock));
    localCopy.forget(KEY);
    localCopy.forget(keyOf('other'));
    assert.equal(localCopy.find(KEY), undefined);
    localCopy.remember(binding(clock));
    localCopy.clear();
    assert.equal(localCopy.count(), 0);
  });

  test("applies the store's own rules to a binding that it holds", async () => {
    const { clock, localCopy } = start();
    localCopy.remember(binding(clock));
    await clock.advance(1_000);
    const now = clock.now();
    localCopy.apply({ kind: 'touch', key: KEY, now, ttlMs: TTL_MS });
    assert.equal(localCopy.find(KEY)?.expiresAt, now + TTL_MS);
    localCopy.apply({ kind: 'expireWithin', key: KEY, now, ttlMs: 10 });
    assert.equal(localCopy.find(KEY)?.expiresAt, now + 10);
    localCopy.apply({ kind: 'delete', key: KEY, now, ifMachine: B });
    assert.equal(localCopy.find(KEY)?.machine, A);
    localCopy.apply({ kind: 'delete', key: KEY, now, ifMachine: A });
    assert.equal(localCopy.find(KEY), undefined);
    localCopy.apply({ kind: 'touch', key: KEY, now, ttlMs: TTL_MS });
    assert.equal(localCopy.find(KEY), undefined);
  });

  test('is bounded: the most recent bindings stay, learned ones longest', () => {
    const { clock, localCopy } = start(100);
    for (const key of keysOf('learned', 60)) localCopy.remember(binding(clock, key));
    for (const key of keysOf('copied', 200)) localCopy.remember(binding(clock, key, 'copied'));
    assert.ok(localCopy.count() <= 101);
    for (const key of keysOf('learned', 60)) assert.ok(localCopy.find(key));
    assert.ok(localCopy.find(keyOf('copied-199')));
    for (const key of keysOf('more', 100)) localCopy.remember(binding(clock, key));
    assert.equal(localCopy.find(keyOf('copied-199')), undefined);
    assert.equal(localCopy.find(keyOf('learned-0')), undefined);
  });

  test('limits client-minted ids to half of its size', () => {
    const { clock, localCopy } = start(100);
    for (const key of keysOf('adopted', 200)) localCopy.remember(binding(clock, key, 'adopted'));
    assert.ok(localCopy.count() <= 51);
  });

  test('uses no new slot for the same binding', () => {
    const { clock, localCopy } = start(2);
    const [first, second] = keysOf('k', 2).map((key) => binding(clock, key));
    assert.ok(first && second);
    for (const known of [first, second, first, second]) localCopy.remember(known);
    assert.equal(localCopy.count(), 2);
    assert.equal(localCopy.find(first.key), first);
  });

  test('shrinks step by step when its limit is lowered, and completely with a cleanup', async () => {
    const { clock, localCopy } = start(60_000);
    const many = Array.from({ length: 60_000 }, (_, number) =>
      binding(clock, number.toString(16).padStart(32, '0') as SessionKey),
    );
    for (const known of many) localCopy.remember(known);
    localCopy.setRoom(1_000);
    assert.equal(localCopy.count(), 60_000);
    localCopy.remember(binding(clock));
    const left = localCopy.count();
    assert.ok(left > 1_000 && left < 60_000, `${left} are left after one step`);
    await localCopy.cleanup();
    assert.equal(localCopy.count(), 1_000);
    assert.ok(localCopy.find(KEY));
    assert.ok(localCopy.find(many.at(-1)?.key ?? KEY));
  });
});
