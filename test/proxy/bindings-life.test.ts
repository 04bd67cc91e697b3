/** How long a binding lives: while its session is used or has an open stream. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseSessionKey, type SessionKey } from '../../src/session.ts';
import { STREAM_GRACE_MS } from '../../src/proxy/bindings.ts';
import { keyOf } from '../support/ids.ts';
import { bindHere, KEY, SELF, setUp, TTL_MS } from './bindings-setting.ts';

/** A key that begins with these digits. The first two digits spread the writes. */
function keyBeginning(digits: string): SessionKey {
  return parseSessionKey(digits.padEnd(32, '0')) ?? assert.fail();
}

describe('a binding in use', () => {
  const rows: readonly (readonly [digits: string, afterMs: number])[] = [
    ['00', 60_000],
    ['80', 75_059],
    ['fe', 89_883],
  ];
  for (const [digits, afterMs] of rows) {
    test(`is extended after ${afterMs} ms of its ten minutes if its key begins with ${digits}`, async (t) => {
      const setting = setUp(t);
      const key = keyBeginning(digits);
      const binding = await bindHere(setting, key);
      await setting.clock.advance(afterMs - 1);
      setting.bindings.touchIfDue(binding);
      assert.deepEqual(setting.writes, []);
      await setting.clock.advance(1);
      setting.bindings.touchIfDue(binding);
      await setting.bindings.stop();
      assert.deepEqual(setting.writes, ['touch']);
      assert.equal(setting.row(key)?.expiresAt, setting.clock.now() + TTL_MS);
    });
  }

  test('is extended once for many requests that read the same row', async (t) => {
    const setting = setUp(t);
    const binding = await bindHere(setting);
    await setting.clock.advance(TTL_MS / 2);
    for (let i = 0; i < 50; i += 1) setting.bindings.touchIfDue(binding);
    await setting.bindings.stop();
    assert.deepEqual(setting.writes, ['touch']);
  });

  test('is extended again after a failed write', async (t) => {
    let isBroken = true;
    const setting = setUp(t, {
      touch: () => (isBroken ? Promise.reject(new Error('busy')) : Promise.resolve(true)),
    });
    const binding = await bindHere(setting);
    await setting.clock.advance(TTL_MS / 2);
    setting.bindings.touchIfDue(binding);
    await setting.bindings.stop();
    isBroken = false;
    setting.bindings.touchIfDue(binding);
    await setting.bindings.stop();
    assert.deepEqual(setting.failures, ['touch']);
  });
});

describe('a session with an open stream', () => {
  test('stays bound while one of its streams is open, and for one TTL after', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const [first, second] = [setting.bindings.keepAlive(KEY), setting.bindings.keepAlive(KEY)];
    await setting.clock.advance(5 * TTL_MS);
    first();
    await setting.clock.advance(5 * TTL_MS);
    assert.equal(setting.row()?.machine, SELF);
    second();
    await setting.clock.advance(TTL_MS - 1);
    assert.equal(setting.row()?.machine, SELF);
    await setting.clock.advance(1);
    assert.equal(setting.row(), undefined);
  });

  test('counts each stream once, even if it closes twice', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const [first, second] = [setting.bindings.keepAlive(KEY), setting.bindings.keepAlive(KEY)];
    first();
    first();
    await setting.clock.advance(5 * TTL_MS);
    assert.equal(setting.row()?.machine, SELF);
    second();
  });

  test('shares one timer with all other sessions, and none is left when all streams are closed', (t) => {
    const setting = setUp(t);
    const releases = ['s1', 's2', 's3'].map((text) => setting.bindings.keepAlive(keyOf(text)));
    assert.equal(setting.clock.pendingCount(), 1);
    for (const release of releases) release();
    assert.equal(setting.clock.pendingCount(), 0);
  });

  test('expires one minute after the stream that revealed its id', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const release = setting.bindings.keepAlive(KEY);
    await setting.clock.advance(TTL_MS);
    release();
    setting.bindings.endWithStream(KEY, 'mcp-sse');
    await setting.clock.advance(STREAM_GRACE_MS - 1);
    assert.equal(setting.row()?.machine, SELF);
    await setting.clock.advance(1);
    assert.equal(setting.row(), undefined);
  });
});
