/** Which `state` of a replay is a sidecar's, and the span in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatReplay, formatReplaySource, parseReplay, parseReplaySource } from '../../src/fly.ts';
import { isReplayMark, replayMarkWith, spanOfReplay } from '../../src/routing/replay-state.ts';
import { machineId } from '../support/ids.ts';

const SPAN = `${'a'.repeat(32)}-${'b'.repeat(16)}-01`;

// prettier-ignore
for (const [state, isMark, span] of [
  ['fly-affinity', true, undefined],
  [`fly-affinity.${SPAN}`, true, SPAN],
  ['fly-affinity.what comes later', true, 'what comes later'],
  ['fly-affinity.', true, ''],
  ['fly-affinity2', false, undefined],
  ['Fly-Affinity', false, undefined],
  ['x fly-affinity', false, undefined],
  ['', false, undefined],
  [undefined, false, undefined],
] as const) {
  test(`state: "${state}" is ${isMark ? 'a mark of a sidecar' : "an app's"}`, () => {
    assert.equal(isReplayMark(state), isMark);
    assert.equal(spanOfReplay(state), span);
  });
}

test('state: a mark with a span survives the edge', () => {
  const replay = parseReplay(formatReplay({ instance: 'm1', state: replayMarkWith(SPAN) }));
  const source = formatReplaySource({
    instance: machineId('m1'),
    region: 'iad',
    timestampMicros: 1,
    state: replay?.state ?? '',
  });
  const { state } = parseReplaySource(source);
  assert.ok(isReplayMark(state));
  assert.equal(spanOfReplay(state), SPAN);
});
