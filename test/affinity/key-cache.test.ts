import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createKeyCache } from '../../src/affinity/key-cache.ts';
import { parseSessionId, sessionKeyOf } from '../../src/affinity/session.ts';

test('the cache gives each id its own key, however many there are', () => {
  const keyOf = createKeyCache();
  for (const round of [1, 2, 3]) {
    for (let i = 0; i < 120_000; i += round) {
      const id = parseSessionId(`id-${i}`);
      assert.ok(id);
      assert.equal(keyOf(id), sessionKeyOf(id));
    }
  }
});
