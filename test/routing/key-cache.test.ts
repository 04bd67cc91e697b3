import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createKeyCache } from '../../src/routing/owner-lookup.ts';
import { parseSessionId, sessionKeyOf } from '../../src/session.ts';
import { heldAfter } from '../support/held-bytes.ts';

test('the cache returns the key of each id, however many there are', () => {
  const keyOf = createKeyCache();
  for (const round of [1, 2, 3]) {
    for (let i = 0; i < 120_000; i += round) {
      const id = parseSessionId(`id-${i}`);
      assert.ok(id);
      assert.equal(keyOf(id), sessionKeyOf(id));
    }
  }
});

test('the cache keeps ids, and not the heads that contained them', () => {
  const keyOf = createKeyCache();
  const heldBytes = heldAfter(() => {
    for (let i = 0; i < 2_000; i += 1) {
      const head = Buffer.alloc(30_000, `session-number-${i},`).toString('latin1');
      const id = parseSessionId(head.slice(0, head.indexOf(',')));
      assert.ok(id);
      keyOf(id);
    }
  });
  assert.ok(heldBytes < 5_000_000, `${heldBytes} bytes`);
});
