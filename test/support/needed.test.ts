import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram, verdictOnMissing } from './needed.ts';

const needed = {
  what: 'the moon',
  found: undefined,
  missing: 'rocket',
  howToGet: 'apt-get install rocket',
};

test('what is missing is skipped, and a sentence says what and how to get it', () => {
  assert.deepEqual(verdictOnMissing(needed, {}), {
    mayBeSkipped: true,
    sentence:
      'skipped the tests of the moon: there is no rocket; get it with: apt-get install rocket',
  });
  assert.equal(verdictOnMissing(needed, { CI: 'false' }).mayBeSkipped, true);
});

test('with CI=true nothing is skipped', () => {
  assert.equal(verdictOnMissing(needed, { CI: 'true' }).mayBeSkipped, false);
});

test('a program is found by its first name that is there', () => {
  assert.match(findProgram(['no-such-program', 'node']) ?? '', /\/node$/);
  assert.equal(findProgram(['no-such-program']), undefined);
  assert.equal(findProgram(['node'], ['/no/such/directory']), undefined);
});
