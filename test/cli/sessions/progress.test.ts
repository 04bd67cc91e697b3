import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { startProgress } from '../../../src/cli/sessions/transfer.ts';
import { createTestClock } from '../../support/clock.ts';

function setUp(isTTY: boolean) {
  const clock = createTestClock();
  const terminal = Object.assign(new PassThrough(), { isTTY });
  const progress = startProgress({ terminal, clock, things: 'sessions read' });
  return { clock, progress, shown: () => String(terminal.read() ?? '') };
}

test('on a terminal one line shows progress and speed, and is erased at the end', async () => {
  const { clock, progress, shown } = setUp(true);
  progress.update(500);
  progress.update(1_000);
  assert.equal(shown(), '');
  await clock.advance(250);
  assert.equal(shown(), '\r\u001b[K1,000 sessions read, 4,000 a second');
  progress.update(1_500);
  await clock.advance(250);
  assert.equal(shown(), '\r\u001b[K1,500 sessions read, 3,000 a second');
  progress.end();
  assert.equal(shown(), '\r\u001b[K');
  assert.equal(clock.pendingCount(), 0);
});

test('without a terminal nothing is shown', async () => {
  const { clock, progress, shown } = setUp(false);
  progress.update(1_000);
  await clock.advance(1_000);
  progress.end();
  assert.equal(shown(), '');
  assert.equal(clock.pendingCount(), 0);
});
