/** The streams of a released session: which are closed, when, and how often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createOpenStreams,
  FINISH_GRACE_MS,
  RELEASE_JITTER_MS,
  type OpenStreams,
} from '../../src/proxy/open-streams.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';

const [KEY, OTHER] = [keyOf('room'), keyOf('other')];

function setUp(): { clock: TestClock; streams: OpenStreams } {
  const clock = createTestClock();
  let drawn = 0;
  // Evenly spread: 0, 0.001, 0.002 and so on.
  const random = (): number => (drawn++ % 1_000) / 1_000;
  return { clock, streams: createOpenStreams({ clock, random }) };
}

test('a thousand streams of one session are closed within a second, each once', async () => {
  const { clock, streams } = setUp();
  const closedAt: number[] = [];
  for (let i = 0; i < 1_000; i += 1) {
    const remove = streams.add(KEY, 'endless', () => {
      closedAt.push(clock.monotonicMs());
      remove();
    });
  }
  assert.equal(streams.release(KEY, 'moved'), 1_000);
  assert.equal(streams.release(KEY, 'moved'), 0);
  assert.deepEqual([streams.count(KEY), closedAt.length], [0, 0]);
  await clock.advance(RELEASE_JITTER_MS);
  assert.equal(closedAt.length, 1_000);
  assert.equal(new Set(closedAt).size, 1_000);
  assert.equal(clock.pendingCount(), 0);
});

test('a possibly finite response has 30 seconds to finish, then it is aborted', async () => {
  const { clock, streams } = setUp();
  const closed: string[] = [];
  const remove = streams.add(KEY, 'maybe-finite', () => closed.push('finishes'));
  streams.add(KEY, 'maybe-finite', () => closed.push('endless'));
  streams.release(KEY, 'outranked');
  await clock.advance(FINISH_GRACE_MS - 1);
  assert.deepEqual(closed, []);
  remove();
  await clock.advance(RELEASE_JITTER_MS);
  assert.deepEqual(closed, ['endless']);
});

test('other sessions keep their streams', async () => {
  const { clock, streams } = setUp();
  streams.add(OTHER, 'endless', () => assert.fail('closed'));
  assert.equal(streams.release(KEY, 'deleted'), 0);
  await clock.advance(RELEASE_JITTER_MS);
  assert.equal(streams.count(OTHER), 1);
});

test('no timer is left after a stream ends by itself or after stop()', () => {
  const { clock, streams } = setUp();
  const remove = streams.add(KEY, 'endless', () => assert.fail('closed'));
  streams.add(KEY, 'endless', () => assert.fail('closed'));
  streams.release(KEY, 'moved');
  assert.equal(clock.pendingCount(), 2);
  remove();
  remove();
  assert.equal(clock.pendingCount(), 1);
  streams.stop();
  assert.equal(clock.pendingCount(), 0);
  assert.equal(streams.release(KEY, 'moved'), 0);
});
