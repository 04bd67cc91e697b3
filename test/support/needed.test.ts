import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram, handleMissing } from './needed.ts';

const needed = {
  what: 'the moon',
  found: undefined,
  missing: 'rocket',
  howToGet: 'apt-get install rocket',
};

test('tests without their requirements are skipped, with what is missing and how to get it', () => {
  assert.deepEqual(handleMissing(needed, {}), {
    mayBeSkipped: true,
    sentence:
      'skipped the tests of the moon: there is no rocket; get it with: apt-get install rocket',
  });
  assert.equal(handleMissing(needed, { CI: 'false' }).mayBeSkipped, true);
});

test('with CI=true nothing is skipped', () => {
  assert.equal(handleMissing(needed, { CI: 'true' }).mayBeSkipped, false);
});

test('a program is found by the first name that exists', () => {
  assert.match(findProgram(['no-such-program', 'node']) ?? '', /\/node$/);
  assert.equal(findProgram(['no-such-program']), undefined);
  assert.equal(findProgram(['node'], ['/no/such/directory']), undefined);
});
