import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { rendezvousRank, rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import { keyOf, machineId } from '../support/ids.ts';

const MACHINES = ['m1', 'm2', 'm3', 'm4'].map(machineId);
const KEYS = Array.from({ length: 2_000 }, (_, i) => keyOf(`room-${i}`));

describe('rendezvous hashing', () => {
  test('gives the same winner whatever the order of the Machines', () => {
    for (const key of KEYS) {
      const winner = rendezvousWinner(key, MACHINES);
      assert.equal(rendezvousWinner(key, [...MACHINES].reverse()), winner);
    }
  });

  test('moves only the keys of a Machine that leaves', () => {
    const [first, ...others] = MACHINES;
    for (const key of KEYS) {
      const winner = rendezvousWinner(key, MACHINES);
      if (winner !== first) assert.equal(rendezvousWinner(key, others), winner);
    }
  });

  test('spreads keys evenly over the Machines', () => {
    for (const machine of MACHINES) {
      const won = KEYS.filter((key) => rendezvousWinner(key, MACHINES) === machine).length;
      assert.ok(won > 400 && won < 600, `${machine} won ${won} of ${KEYS.length}`);
    }
  });

  test('has no winner without Machines', () => {
    assert.equal(rendezvousWinner(keyOf('room'), []), undefined);
  });

  // Machines of different versions must agree: this number is part of the protocol.
  test('computes the rank that all versions compute', () => {
    assert.equal(rendezvousRank(keyOf('room'), machineId('m1')), RANK_OF_ROOM_ON_M1);
  });
});

const RANK_OF_ROOM_ON_M1 = 130_640_868_265_208;
