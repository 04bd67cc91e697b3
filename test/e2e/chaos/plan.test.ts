import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FAULT_NAMES, planRounds, type Round } from './plan.ts';

const PLACES = 5;

function firstRounds(seed: number, count = 50): Round[] {
  const plan = planRounds(seed, PLACES);
  return Array.from({ length: count }, () => plan.next().value);
}

test('the same seed makes the same plan, and another seed another plan', () => {
  assert.deepEqual(firstRounds(7), firstRounds(7));
  assert.notDeepEqual(firstRounds(7), firstRounds(8));
});

test('every fault happens once before any happens a second time', () => {
  const names = firstRounds(1)
    .flatMap(({ faults }) => faults.map(({ name }) => name))
    .slice(0, FAULT_NAMES.length);
  assert.deepEqual(names.toSorted(), FAULT_NAMES.toSorted());
});

test('no Machine has two faults at once, and the processes of the first one keep running', () => {
  for (const { faults } of firstRounds(3, 200)) {
    assert.equal(new Set(faults.map(({ place }) => place)).size, faults.length);
    const ofFirst = faults.filter(({ place }) => place === 0).map(({ name }) => name);
    assert.ok(!ofFirst.some((name) => ['crash', 'stop', 'no-sidecar', 'replace'].includes(name)));
  }
});
