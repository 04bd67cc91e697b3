import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool, ReadBuffers } from '../../src/http1/read-buffers.ts';
import { Recorder } from './support.ts';

const LARGE = 60_000;

test('a buffer comes back to the next reader only when it was released, and only once', () => {
  const pool = new BufferPool();
  const [first, second] = [new ReadBuffers(pool), new ReadBuffers(pool)];
  first.prepare(LARGE, true);
  const own = first.current;
  const releases: (() => void)[] = [];
  const sink = Object.assign(new Recorder(), {
    onData: (_: Buffer, release?: () => void) => release && releases.push(release),
  });
  first.handOn(own, 0, LARGE, sink);
  second.prepare(LARGE, true);
  assert.notEqual(second.current, own, 'it is still the receiver’s');
  releases[0]?.();
  releases[0]?.();
  first.prepare(LARGE, true);
  assert.equal(first.current, own);
  const third = new ReadBuffers(pool);
  third.prepare(LARGE, true);
  assert.notEqual(third.current, own);
});

test('a connection goes back to the shared buffer once its reads are small, or its body is whole', () => {
  const pool = new BufferPool();
  const buffers = new ReadBuffers(pool);
  for (const [byteCount, isMoreExpected] of [
    [100, true],
    [LARGE, false],
  ] as const) {
    buffers.prepare(LARGE, true);
    assert.notEqual(buffers.current, pool.shared);
    buffers.prepare(byteCount, isMoreExpected);
    assert.equal(buffers.current, pool.shared);
  }
});

test('what is kept for later reads is bounded', () => {
  const pool = new BufferPool();
  const buffers: Buffer[] = Array.from({ length: 100 }, () => Buffer.alloc(1));
  for (const buffer of buffers) pool.giveBack(buffer);
  const kept = Array.from({ length: 100 }, () => pool.take()).filter((one) =>
    buffers.includes(one),
  );
  assert.equal(kept.length, 32);
});
