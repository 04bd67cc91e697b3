import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sourceOf } from '../../src/routing/facts.ts';

// prettier-ignore
const ROWS: readonly (readonly [address: string, network: string])[] = [
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:0DB8:0001:0002::', '2001:db8:1:2'],
  ['2001:db8:1:2::6', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['2001:db8::2', '2001:db8:0:0'],
  ['2001:db8:0:0:a:b:c:d', '2001:db8:0:0'],
  ['2001:db8::a:b:c:d', '2001:db8:0:0'],
  ['2001:db8::1:a:b:c:d', '2001:db8:0:1'],
  ['::1', '0:0:0:0'],
  ['::', '0:0:0:0'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
  ['no address', 'no address'],
  [':::::::::', '0:0:0:0'],
];
for (const [address, network] of ROWS) {
  test(`the network of ${address} is ${network}`, () => assert.equal(sourceOf(address), network));
}

test('text that is longer than any address is cut', () => {
  assert.equal(sourceOf('x'.repeat(60_000)).length, 45);
});
