import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createVia } from '../../src/proxy/attempt-request.ts';
import { machineId } from '../support/ids.ts';

const OWN = 'fly-affinity (m1)';
const via = createVia(machineId('m1'));

describe('Via', () => {
  test('has the received version, the sidecar, and its Machine in the comment', () => {
    assert.equal(via.lineFor(1), `Via: 1.1 ${OWN}\r\n`);
    assert.equal(via.lineFor(0), `Via: 1.0 ${OWN}\r\n`);
  });

  const rows: readonly (readonly [name: string, values: readonly string[], isLoop: boolean])[] = [
    ['nothing', [], false],
    ['others', ['1.1 fly.io', '1.0 fred, 2 p.example.net'], false],
    ['this sidecar once', [`1.1 ${OWN}`], false],
    [
      'this sidecar twice, as where an app sends a request on',
      [`1.1 ${OWN}, 1.1 x, 1.1 ${OWN}`],
      false,
    ],
    ['this sidecar three times in one line', [`1.1 ${OWN}, 1.1 ${OWN}, 1.1 ${OWN}`], true],
    [
      'this sidecar three times in three lines',
      [`1.1 ${OWN}`, '1.1 a', `1.0 ${OWN}`, `1.1 ${OWN}`],
      true,
    ],
    ['this sidecar three times without blanks', [`1.1 ${OWN},1.1 ${OWN},1.1 ${OWN}`], true],
    ['this sidecar a hundred times', [`1.1 ${OWN}, `.repeat(100)], true],
    ['another Machine', ['1.1 fly-affinity (m2), '.repeat(9)], false],
    ['a Machine whose name starts the same', ['1.1 fly-affinity (m12), '.repeat(9)], false],
    ['a sidecar without its comment', ['1.1 fly-affinity, '.repeat(9)], false],
  ];
  for (const [name, values, isLoop] of rows) {
    test(`of ${name} is ${isLoop ? 'a loop' : 'not a loop'}`, () => {
      assert.equal(via.isLoop(values), isLoop);
    });
  }

  test('of a loop is detected after any forged text', () => {
    const passes = Array.from({ length: 3 }, () => `1.1 ${OWN}`);
    for (const forged of ['(', ')', '"', '\\', ',,,', '1.1 (fly-affinity', '\xff']) {
      assert.equal(via.isLoop([forged, ...passes]), true);
    }
  });
});
