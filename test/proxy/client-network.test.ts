import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkOf } from '../../src/proxy/client-network.ts';

const TABLE: readonly (readonly [address: string, network: string])[] = [
  ['203.0.113.7', '203.0.113.7'],
  ['::ffff:203.0.113.7', '::ffff:203.0.113.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::6', '2001:db8:1:2'],
  ['2001:db8::6', '2001:db8:0:0'],
  ['2001:db8::5:6', '2001:db8:0:0'],
  ['2001:db8::2:3:4:5:6', '2001:db8:0:2'],
  ['::1', '0:0:0:0'],
  ['::', '0:0:0:0'],
];

for (const [address, network] of TABLE) {
  test(`of ${address} the network is ${network}`, () => {
    assert.equal(networkOf(address), network);
  });
}

test('what is longer than any address is cut', () => {
  assert.equal(networkOf('x'.repeat(60_000)).length, 45);
});
