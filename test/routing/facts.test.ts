/** The edge's headers of a request, and how fields are found, set and removed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { headerValue, withHeader, withoutHeader } from '../../src/protocols/heads.ts';
import { readEdgeFields, type EdgeFields } from '../../src/routing/facts.ts';

describe("the edge's headers", () => {
  const rows: readonly (readonly [raw: readonly string[], fields: Partial<EdgeFields>])[] = [
    [['Fly-Request-Id', '01H'], { requestId: '01H' }],
    [['fly-replay-src', 'instance=m1'], { replaySource: 'instance=m1' }],
    [['FLY-REPLAY-FAILED', 'reason=timeout'], { replayFailed: 'reason=timeout' }],
    [['fly-preferred-instance-unavailable', 'm2'], { preferredUnavailable: 'm2' }],
    [['fly-replay-cache-status', 'hit'], { replayCacheStatus: 'hit' }],
    [['fly-replay-src', 'a', 'fly-replay-src', 'b'], { replaySource: 'b' }],
    [['TraceParent', '00-a-b-01'], { traceParent: '00-a-b-01' }],
    [['traceparent', '00-a-b-01', 'Traceparent', 'x'], { traceParent: '00-a-b-01, x' }],
    [['x-request-id-x', 'a', 'fly-replay-srd', 'b'], {}],
  ];
  for (const [raw, fields] of rows) {
    test(`are parsed from ${JSON.stringify(raw)}`, () => {
      const nothing = readEdgeFields([]);
      assert.deepEqual(readEdgeFields(raw), { ...nothing, ...fields });
    });
  }
});

test('a header is found by its lower-case name, the first of several', () => {
  assert.equal(headerValue(['A', '1', 'X-A', '2', 'x-a', '3'], 'x-a'), '2');
  assert.equal(headerValue(['A', 'x-a'], 'x-a'), undefined);
});

test('setting a header replaces all fields of that name', () => {
  const raw = ['Accept-Encoding', 'gzip', 'A', '1', 'accept-encoding', 'br'];
  assert.deepEqual(withHeader(raw, 'accept-encoding', 'identity'), [
    ...['A', '1', 'accept-encoding', 'identity'],
  ]);
});

test('removing a missing header makes no copy', () => {
  const raw = ['A', '1', 'x-a', '2'];
  assert.equal(withoutHeader(raw, 'x-b'), raw);
  assert.deepEqual(withoutHeader(raw, 'x-a'), ['A', '1']);
});
