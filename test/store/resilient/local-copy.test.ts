/** What is known of a store while it can't be asked. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Binding, BindingOrigin, SessionKey } from '../../../src/session.ts';
import { createLocalCopy, type LocalCopy } from '../../../src/store/resilient/local-copy.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';
import { A, B, KEY, keys, TTL_MS } from '../resilient-world.ts';

const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };

function start(room = 1_000, limits = LIMITS): { clock: TestClock; standby: LocalCopy } {
  const clock = createTestClock();
  return { clock, standby: createLocalCopy(clock, limits, room) };
}

function binding(
  clock: TestClock,
  key: SessionKey = KEY,
  origin: BindingOrigin = 'learned',
): Binding {
  const now = clock.now();
  return { key, machine: A, origin, generation: 1, createdAt: now, expiresAt: now + TTL_MS };
}

async function listed(standby: LocalCopy): Promise<SessionKey[]> {
  const found: SessionKey[] = [];
  for await (const { key } of standby.entries()) found.push(key);
  return found;
}

describe('the standby', () => {
  test('knows what it was told, until it expires', async () => {
    const { clock, standby } = start();
    const known = binding(clock);
    standby.remember(known);
    assert.equal(standby.find(KEY), known);
    await clock.advance(TTL_MS - 1);
    assert.equal(standby.find(KEY), known);
    await clock.advance(1);
    assert.equal(standby.find(KEY), undefined);
    assert.deepEqual(await listed(standby), []);
    assert.equal(standby.count(), 1);
    assert.equal(await standby.cleanup(), 1);
    assert.equal(standby.count(), 0);
  });

  test('forgets what it is told to, and all when it is cleared', () => {
    const { clock, standby } = start();
    standby.remember(binding(clock));
    standby.forget(KEY);
    standby.forget(keyOf('other'));
    assert.equal(standby.find(KEY), undefined);
    standby.remember(binding(clock));
    standby.clear();
    assert.equal(standby.count(), 0);
  });

  test('follows what the store does to a binding that it knows', async () => {
    const { clock, standby } = start();
    standby.remember(binding(clock));
    await clock.advance(1_000);
    const now = clock.now();
    standby.apply({ kind: 'touch', key: KEY, now, ttlMs: TTL_MS });
    assert.equal(standby.find(KEY)?.expiresAt, now + TTL_MS);
    standby.apply({ kind: 'expireWithin', key: KEY, now, ttlMs: 10 });
    assert.equal(standby.find(KEY)?.expiresAt, now + 10);
    standby.apply({ kind: 'delete', key: KEY, now, ifMachine: B });
    assert.equal(standby.find(KEY)?.machine, A);
    standby.apply({ kind: 'delete', key: KEY, now, ifMachine: A });
    assert.equal(standby.find(KEY), undefined);
    standby.apply({ kind: 'touch', key: KEY, now, ttlMs: TTL_MS });
    assert.equal(standby.find(KEY), undefined);
  });

  test('has room for so many: what was told last stays, learned ones longest', () => {
    const { clock, standby } = start(100);
    for (const key of keys('learned', 60)) standby.remember(binding(clock, key));
    for (const key of keys('copied', 200)) standby.remember(binding(clock, key, 'copied'));
    assert.ok(standby.count() <= 101);
    for (const key of keys('learned', 60)) assert.ok(standby.find(key));
    assert.ok(standby.find(keyOf('copied-199')));
    for (const key of keys('more', 100)) standby.remember(binding(clock, key));
    assert.equal(standby.find(keyOf('copied-199')), undefined);
    assert.equal(standby.find(keyOf('learned-0')), undefined);
  });

  test('what clients bring along takes half of the room at most', () => {
    const { clock, standby } = start(100);
    for (const key of keys('adopted', 200)) standby.remember(binding(clock, key, 'adopted'));
    assert.ok(standby.count() <= 51);
  });

  test('the same once more takes no new place', () => {
    const { clock, standby } = start(2);
    const [first, second] = keys('k', 2).map((key) => binding(clock, key));
    assert.ok(first && second);
    for (const known of [first, second, first, second]) standby.remember(known);
    assert.equal(standby.count(), 2);
    assert.equal(standby.find(first.key), first);
  });

  test('room that is taken away is given back step by step, and all of it by a clean-up', async () => {
    const { clock, standby } = start(60_000);
    const many = Array.from({ length: 60_000 }, (_, number) =>
      binding(clock, number.toString(16).padStart(32, '0') as SessionKey),
    );
    for (const known of many) standby.remember(known);
    standby.setRoom(1_000);
    assert.equal(standby.count(), 60_000);
    standby.remember(binding(clock));
    const left = standby.count();
    assert.ok(left > 1_000 && left < 60_000, `${left} are left after one step`);
    await standby.cleanup();
    assert.equal(standby.count(), 1_000);
    assert.ok(standby.find(KEY));
    assert.ok(standby.find(many.at(-1)?.key ?? KEY));
  });
});
