import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSpread, sessionTextOfRequest } from '../../src/simulator/spread.ts';
import { machineId } from './support.ts';

const three = ['a1', 'b2', 'c3'].map((id) => ({ id: machineId(id) }));
const [a, b, c] = three.map(({ id }) => id);

function seeded(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
}

test('round robin starts at each in turn', () => {
  const spread = createSpread('round-robin', seeded(1));
  const firsts = Array.from({ length: 4 }, () => spread.order(three)[0]?.id);
  assert.deepEqual(firsts, [a, b, c, a]);
});

test('random is the same for the same seed, and starts at every Machine', () => {
  const firsts = (seed: number): (string | undefined)[] => {
    const spread = createSpread('random', seeded(seed));
    return Array.from({ length: 30 }, () => spread.order(three)[0]?.id);
  };
  assert.deepEqual(firsts(7), firsts(7));
  assert.equal(new Set(firsts(7)).size, 3);
});

test('never-same never starts two requests in a row at one Machine', () => {
  const spread = createSpread('never-same', seeded(1));
  let previous: string | undefined;
  for (let i = 0; i < 20; i += 1) {
    const first = spread.order(three, i % 3 === 0 ? 'session' : undefined)[0]?.id;
    assert.ok(first !== undefined && first !== previous);
    spread.noteFirst(first);
    previous = first;
  }
});

test('never-same never starts at the Machine that served the session, and rotates over the others', () => {
  const spread = createSpread('never-same', seeded(1));
  const owner = machineId('b2');
  const firsts: string[] = [];
  for (let i = 0; i < 10; i += 1) {
    spread.noteServed('session', owner);
    const first = spread.order(three, 'session')[0];
    assert.ok(first);
    spread.noteFirst(first.id);
    firsts.push(first.id);
  }
  assert.deepEqual(new Set(firsts), new Set([a, c]));
});

test('with two Machines, never-same still avoids the one that served the session', () => {
  const spread = createSpread('never-same', seeded(1));
  const two = three.slice(0, 2);
  for (let i = 0; i < 5; i += 1) {
    spread.noteServed('session', machineId('a1'));
    const first = spread.order(two, 'session')[0];
    assert.equal(first?.id, b);
    spread.noteFirst(machineId('b2'));
  }
});

test('a session is recognized in headers, query and cookies', () => {
  assert.equal(sessionTextOfRequest({ 'mcp-session-id': 'x' }, '/?session_id=y'), 'x');
  assert.equal(sessionTextOfRequest({ 'x-session-id': 'x' }, '/'), 'x');
  assert.equal(sessionTextOfRequest({}, '/?a=b&sessionId=y'), 'y');
  assert.equal(sessionTextOfRequest({ cookie: 'sid=z' }, '/'), 'sid=z');
  assert.equal(sessionTextOfRequest({}, '/'), undefined);
});
