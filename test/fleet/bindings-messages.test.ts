import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Binding } from '../../src/affinity/session.ts';
import {
  formatBindingsPage,
  formatBindingsRequest,
  parseBindingsPage,
  parseBindingsRequest,
} from '../../src/fleet/bindings-messages.ts';
import { MAX_KEYS, MAX_MESSAGE_BYTES } from '../../src/fleet/messages.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [A, B] = [machineId('aa'), machineId('bb')];
const KEY = keyOf('one');
const NOW = 1_000_000;
const BINDING: Binding = {
  ...{ key: KEY, machine: B, origin: 'copied', generation: 2 },
  ...{ createdAt: NOW - 500, expiresAt: NOW + 60_000 },
};

describe('messages at a join', () => {
  it('arrive as they were sent', () => {
    for (const after of [undefined, 'x1-3']) {
      const request = { from: A, of: 'own' as const, after };
      assert.deepEqual(parseBindingsRequest(formatBindingsRequest(request)), request);
    }
    const row = { key: KEY, generation: 2, ageMs: 500, ttlMs: 60_000 };
    const page = { machine: A, bindings: [BINDING, BINDING], next: 'x1-3' };
    const copies = [1, 2].map(() => ({ ...row, owner: B }));
    assert.deepEqual(parseBindingsPage(formatBindingsPage(page, 'copies', NOW)), {
      ...page,
      bindings: copies,
    });
    const last = { machine: A, bindings: [BINDING], next: undefined };
    assert.deepEqual(parseBindingsPage(formatBindingsPage(last, 'own', NOW)), {
      ...last,
      bindings: [{ ...row, owner: undefined }],
    });
  });

  it('fit their bounds with the most keys and the longest rows', () => {
    const machine = machineId('a'.repeat(32));
    const most = { ...BINDING, machine, generation: Number.MAX_SAFE_INTEGER, createdAt: 0 };
    const bindings = Array.from({ length: MAX_KEYS }, () => ({ ...most, expiresAt: 1e17 }));
    const text = formatBindingsPage({ machine, bindings, next: 'x' }, 'copies', 1e15);
    assert.ok(text.length < MAX_MESSAGE_BYTES);
    assert.equal(parseBindingsPage(text)?.bindings.length, MAX_KEYS);
  });

  const rows: [string, unknown][] = [
    ['no list', {}],
    ['nothing in it', []],
    ['an id for a key', ['one', 1, 0, 1]],
    ['generation 0', [KEY, 0, 0, 1]],
    ['a negative age', [KEY, 1, -1, 1]],
    ['no time left', [KEY, 1, 0, 0]],
    ['a time to live of ages', [KEY, 1, 0, 1e15]],
    ['an owner that is no Machine', [KEY, 1, 0, 1, 'A-B']],
    ['more than it may have', [KEY, 1, 0, 1, 'bb', 1]],
  ];
  for (const [what, row] of rows) {
    it(`refuse a page whole of which a row has ${what}`, () => {
      const good = [KEY, 1, 0, 1];
      assert.ok(parseBindingsPage(JSON.stringify({ machine: A, bindings: [good] })));
      const text = JSON.stringify({ machine: A, bindings: [good, row] });
      assert.equal(parseBindingsPage(text), undefined);
    });
  }

  const requests: [string, object][] = [
    ['no sender', { of: 'own' }],
    ['nothing that is wanted', { from: A }],
    ['something else wanted', { from: A, of: 'all' }],
    ['a cursor that is no text', { from: A, of: 'own', after: 1 }],
    ['a cursor that is too long', { from: A, of: 'own', after: 'x'.repeat(65) }],
  ];
  for (const [what, request] of requests) {
    it(`refuse a request with ${what}`, () => {
      assert.equal(parseBindingsRequest(JSON.stringify(request)), undefined);
    });
  }
});
