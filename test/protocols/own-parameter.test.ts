import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addOwnParameter,
  cutOwnParameter,
  readOwnParameter,
} from '../../src/protocols/own-parameter.ts';

const VALUE = '0123abcd~m1';

// prettier-ignore
const CUTS: readonly (readonly [target: string, cut: string])[] = [
  ['/m?fly-affinity=a~m1', '/m'],
  ['/m?a=b&fly-affinity=a~m1', '/m?a=b'],
  ['/m?fly-affinity=a~m1&a=b', '/m?a=b'],
  ['/m?a&fly-affinity=a~m1&b', '/m?a&b'],
  ['/m?&fly-affinity=a', '/m?'],
  ['/m?fly-affinity', '/m'],
  ['/m?fly-affinity=a&fly-affinity=b', '/m?fly-affinity=a'],
  ['/m?a=b&fly-affinity=a&x&fly-affinity=b', '/m?a=b&fly-affinity=a&x'],
  ['/m?fly-affinity=a&', '/m?'],
  ['/m?fly%2Daffinity=a&x=%zz', '/m?x=%zz'],
  ['/m?a=b&&fly-affinity=a#f?fly-affinity=b', '/m?a=b&#f?fly-affinity=b'],
];
for (const [target, cut] of CUTS) {
  test(`${target} reaches the app as ${cut}`, () => assert.equal(cutOwnParameter(target), cut));
}

for (const target of [
  '/',
  '/m?',
  '/m?a=fly-affinity',
  '/fly-affinity=a',
  '/m?fly-affinity2=a',
  '/m?x-fly-affinity=a',
  '/m#?fly-affinity=a',
  '/m?a=%41&&b',
]) {
  test(`${target} reaches the app as it is`, () => assert.equal(cutOwnParameter(target), target));
}

test('whatever a URL is, the parameter that is added to it is cut out again, byte by byte', () => {
  const piece = fc.constantFrom(
    '/',
    'm',
    '?',
    '&',
    '=',
    '%41',
    '%',
    '#',
    'a',
    '\xe9',
    'fly-affinity2',
    '.',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const url = pieces.join('');
      const hash = url.indexOf('#');
      // A client does not send the fragment (RFC 9110 §7.1).
      const sent = (text: string): string => text.split('#')[0] ?? '';
      assert.equal(cutOwnParameter(sent(addOwnParameter(url, VALUE))), sent(url));
      assert.ok(hash === -1 || addOwnParameter(url, VALUE).endsWith(url.slice(hash)));
    }),
    { numRuns: 3_000 },
  );
});

test('ten thousand other parameters are passed over in one pass', () => {
  const others = 'a=%41&'.repeat(10_000);
  assert.equal(cutOwnParameter(`/?${others}fly-affinity=x`), `/?${others.slice(0, -1)}`);
});

test('of two sidecars in a row each reads and cuts its own', () => {
  const inner = addOwnParameter('/m/1', 'inner~i1');
  const outer = addOwnParameter(inner, 'outer~o1');
  assert.equal(readOwnParameter(outer), 'outer~o1');
  assert.equal(cutOwnParameter(outer), inner);
  assert.equal(readOwnParameter(inner), 'inner~i1');
  assert.equal(cutOwnParameter(inner), '/m/1');
});
