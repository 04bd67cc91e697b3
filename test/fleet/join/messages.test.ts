import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Binding } from '../../../src/session.ts';
import {
  formatBindingsPage,
  formatBindingsRequest,
  MAX_PAGE_BYTES,
  parseBindingsPage,
  parseBindingsRequest,
} from '../../../src/fleet/join/reader.ts';
import { PAGE_BINDINGS } from '../../../src/store/store.ts';
import { peerPageOf } from '../../../src/store/peer-pages.ts';
import { keyOf, machineId } from '../../support/ids.ts';

const [A, B] = [machineId('aa'), machineId('bb')];
const KEY = keyOf('one');
const NOW = 1_000_000;
const BINDING: Binding = {
  ...{ key: KEY, machine: B, origin: 'copied', generation: 2 },
  ...{ createdAt: NOW - 500, expiresAt: NOW + 60_000 },
};

function rowsOf(count: number): unknown[] {
  return Array.from({ length: count }, () => [KEY, 0, 1, 0, 1]).flat();
}

function ownersOf(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`${index}`, 'bb']));
}

describe('messages at a join', () => {
  it('arrive as they were sent', () => {
    for (const after of [undefined, 'x1-3']) {
      const request = { from: A, of: 'own' as const, after };
      assert.deepEqual(parseBindingsRequest(formatBindingsRequest(request)), request);
    }
    const row = { key: KEY, generation: 2, ageMs: 500, ttlMs: 60_000 };
    const page = peerPageOf([BINDING, { ...BINDING, machine: A }, BINDING], NOW);
    const bindings = [B, A, B].map((owner) => ({ ...row, owner }));
    for (const next of [undefined, 'x1-3']) {
      const text = formatBindingsPage({ machine: A, page, next });
      assert.deepEqual(parseBindingsPage(text), { machine: A, bindings, next });
    }
  });

  it('contain no rows of an owner that is not named', () => {
    const { rows, owners } = peerPageOf([BINDING, { ...BINDING, machine: A }], NOW);
    const named = new Map([...owners].filter(([, owner]) => owner === A));
    const text = formatBindingsPage({ machine: A, page: { rows, owners: named }, next: undefined });
    assert.deepEqual(
      parseBindingsPage(text)?.bindings.map(({ owner }) => owner),
      [A],
    );
  });

  it('fit their size limits with the most and the longest rows, each of another owner', () => {
    const most: Binding = { ...BINDING, generation: 2 ** 40, createdAt: 0 };
    const bindings = Array.from({ length: PAGE_BINDINGS }, (_, index) => {
      const machine = machineId(`${index}`.padStart(32, 'a'));
      return { ...most, machine, expiresAt: 1e17 };
    });
    const { rows, owners } = peerPageOf(bindings, 1e15);
    const numbered = [...owners].map(([number, owner]) => [2 ** 40 + number, owner] as const);
    const page = {
      rows: rows.replace(/",(\d+)/g, (_, number) => `",${2 ** 40 + Number(number)}`),
      owners: new Map(numbered),
    };
    const text = formatBindingsPage({ machine: machineId('a'.repeat(32)), page, next: 'x' });
    assert.ok(text.length < MAX_PAGE_BYTES, `${text.length} bytes`);
    assert.equal(parseBindingsPage(text)?.bindings.length, PAGE_BINDINGS);
  });

  const pages: [string, { owners?: unknown; rows?: unknown }][] = [
    ['no list of rows', { rows: {} }],
    ['an incomplete row', { rows: [KEY, 0, 1, 0] }],
    ['an id instead of a key', { rows: ['one', 0, 1, 0, 1] }],
    ['an owner that is not a number', { rows: [KEY, 'bb', 1, 0, 1] }],
    ['generation 0', { rows: [KEY, 0, 0, 0, 1] }],
    ['a negative age', { rows: [KEY, 0, 1, -1, 1] }],
    ['no time left', { rows: [KEY, 0, 1, 0, 0] }],
    ['a TTL above the limit', { rows: [KEY, 0, 1, 0, 1e15] }],
    ['an array instead of a row', { rows: [[KEY, 0, 1, 0, 1]] }],
    ['no owners', { owners: undefined }],
    ['a list of owners', { owners: ['bb'] }],
    ['an owner that is not a Machine id', { owners: { 0: 'A-B' } }],
    ['an owner without a number', { owners: { bb: 'bb' } }],
    ['more rows than a page has', { rows: rowsOf(PAGE_BINDINGS + 1) }],
    ['more owners than a page has rows', { owners: ownersOf(PAGE_BINDINGS + 1) }],
  ];
  for (const [what, parts] of pages) {
    it(`reject a page as a whole that has ${what}`, () => {
      const page = { machine: A, owners: { 0: 'bb' }, rows: rowsOf(2) };
      assert.ok(parseBindingsPage(JSON.stringify(page)));
      const rows = Array.isArray(parts.rows) ? [...rowsOf(1), ...(parts.rows as unknown[])] : [];
      const bad = { ...page, ...parts, ...(rows.length > 0 && { rows }) };
      assert.equal(parseBindingsPage(JSON.stringify(bad)), undefined);
    });
  }

  const requests: [string, object][] = [
    ['no sender', { of: 'own' }],
    ['no kind', { from: A }],
    ['an unknown kind', { from: A, of: 'all' }],
    ['a cursor that is not a string', { from: A, of: 'own', after: 1 }],
    ['a cursor that is too long', { from: A, of: 'own', after: 'x'.repeat(65) }],
  ];
  for (const [what, request] of requests) {
    it(`reject a request with ${what}`, () => {
      assert.equal(parseBindingsRequest(JSON.stringify(request)), undefined);
    });
  }
});
