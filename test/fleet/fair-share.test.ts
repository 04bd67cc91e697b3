import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFairShare } from '../../src/fleet/fair-share.ts';
import { createTestClock } from '../support/clock.ts';
import { heldAfter } from '../support/held-bytes.ts';

const OPTIONS = { ratePerSecond: 500, burst: 1_000, reserve: 500 };
const SHARE = { ratePerSecond: 50, burst: 100 };

test('of the sources that were seen nothing but their addresses stays in memory', () => {
  const take = createFairShare({ ...OPTIONS, share: SHARE, clock: createTestClock() });
  const heldBytes = heldAfter(() => {
    for (let index = 0; index < 1_000; index += 1) {
      const address = `203.0.113.${100_000 + index}`;
      const head = Buffer.from(address.padEnd(20_000, 'x')).toString('latin1');
      take(head.slice(0, address.length));
    }
  });
  assert.ok(heldBytes < 2_000_000, `${heldBytes} bytes`);
});
