/** Bytes that cost their sender nothing must cost little here: the time grows with the length of what is sent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_LIMITS } from '../../src/http/limits.ts';
import { RequestParser } from '../../src/http/request-head.ts';

/** So much that anything quadratic takes minutes. */
const MANY = 1_000_000;
const LIMITS = { ...DEFAULT_LIMITS, headBytes: 2 * MANY };

test(
  'a run of blanks within a token of Connection takes no longer than its length',
  { timeout: 20_000 },
  () => {
    const parser = new RequestParser({ ...LIMITS, protectedNames: new Set() });
    const value = `a${' '.repeat(MANY)}b, close`;
    const bytes = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\nConnection: ${value}\r\n\r\n`);
    const parsed = parser.parse(bytes, 0, bytes.length);
    assert.ok(parsed && 'head' in parsed);
    assert.equal(parsed.head.wantsClose, true);
  },
);
