import { createKeepAliveRule, DEFAULT_KEEP_ALIVE_MS } from '../../src/http/upstream-pool.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

describe('an idle connection may be reused', () => {
  const rows: readonly (readonly [keepAlive: string | undefined, ms: number])[] = [
    [undefined, 4_000],
    ['', 4_000],
    ['timeout=5', 4_000],
    ['timeout=10', 9_000],
    ['Timeout=10', 9_000],
    ['max=100, timeout=10', 9_000],
    ['timeout=10,max=100', 9_000],
    ['timeout=10;max=100', 9_000],
    ['max=100 timeout=10', 9_000],
    ['timeout=1', 0],
    ['timeout=0', -1_000],
    ['timeout=61', 60_000],
    ['timeout=99999', 60_000],
    ['timeout=999999999', 60_000],
    ['timeout=9999999999', 4_000],
    ['timeout=', 4_000],
    ['timeout=-5', 4_000],
    ['timeout=1.5', 4_000],
    ['timeout="10"', 4_000],
    ['xtimeout=10', 4_000],
    ['timeout=10s', 4_000],
    ['max=100', 4_000],
  ];
  for (const [keepAlive, ms] of rows) {
    test(`for ${ms} ms after Keep-Alive: ${String(keepAlive)}`, () => {
      assert.equal(DEFAULT_KEEP_ALIVE_MS, 4_000);
      assert.equal(createKeepAliveRule(DEFAULT_KEEP_ALIVE_MS)(keepAlive), ms);
    });
  }

  test('for the time of its own last response, independent of earlier ones', () => {
    const rule = createKeepAliveRule(1_234);
    const keepAlives = [
      'timeout=5',
      undefined,
      'timeout=5',
      'timeout=5',
      'timeout=7',
      '',
      undefined,
    ];
    assert.deepEqual(keepAlives.map(rule), [4_000, 1_234, 4_000, 4_000, 6_000, 1_234, 1_234]);
  });
});
