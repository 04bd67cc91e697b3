import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outages } from './outages.ts';

const M1 = new Set(['m1']);

test('an outage explains failures that overlap with it, and no others', () => {
  let nowMs = 0;
  const outages = new Outages(() => nowMs);
  nowMs = 100;
  assert.equal(outages.explains(M1, 0), false, 'before it');
  const end = outages.begin('m1');
  nowMs = 150;
  assert.equal(outages.explains(M1, 120), true, 'within it');
  assert.equal(outages.explains(new Set(['m2']), 120), false, 'of another app');
  nowMs = 200;
  end();
  nowMs = 300;
  assert.equal(outages.explains(M1, 0), true, 'begun before it, ended after it');
  assert.equal(outages.explains(M1, 199), true, 'begun within it');
  assert.equal(outages.explains(M1, 201), false, 'begun after it');
});
