import assert from 'node:assert/strict';
import { test } from 'node:test';
import { payload, PayloadCheck } from './payload.ts';

test('a payload is the same however it is split when created and checked', () => {
  const whole = payload(7, 200_000);
  const check = new PayloadCheck(7);
  for (let at = 0; at < whole.length; at += 33_333) {
    const piece = payload(7, Math.min(33_333, whole.length - at), at);
    assert.equal(check.take(piece), undefined);
  }
});

test('the first byte that is changed, lost or doubled is named', () => {
  const whole = payload(7, 200_000);
  const changed = Buffer.from(whole);
  changed[150_000] = (changed[150_000] ?? 0) ^ 1;
  assert.equal(new PayloadCheck(7).take(changed), 150_000);
  const lost = Buffer.concat([whole.subarray(0, 100_000), whole.subarray(100_001)]);
  const doubled = Buffer.concat([whole.subarray(0, 100_000), whole.subarray(99_999)]);
  for (const broken of [lost, doubled]) {
    const at = new PayloadCheck(7).take(broken);
    // A byte may happen to be the same as the expected one.
    assert.ok(at !== undefined && at >= 100_000 && at < 100_010);
  }
});

test('payloads of two seeds differ', () => {
  assert.notEqual(new PayloadCheck(8).take(payload(7, 100)), undefined);
});
