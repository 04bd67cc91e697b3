/**
 * Requirements of tests on their computer. Tests without them are skipped, with a message; with
 * `CI=true` that is a failure, so that no change is accepted without its tests.
 */
import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';

export interface Needed<Found> {
  /** As in "skipped: the tests of {what}". */
  readonly what: string;
  /** What was found; undefined if nothing was. */
  readonly found: Found | undefined;
  /** As in "no {missing}". */
  readonly missing: string;
  /** A command, as in "get it with {howToGet}". */
  readonly howToGet: string;
}

/** Declares the tests that need what was found; otherwise one test that names the skipped ones. */
export function skipUnlessFound<Found>(
  needed: Needed<Found>,
  declareTests: (found: Found) => void,
): void {
  const { found } = needed;
  if (found !== undefined) {
    declareTests(found);
    return;
  }
  test(`the tests of ${needed.what} have what they need`, (t) => {
    const { mayBeSkipped, sentence } = handleMissing(needed, process.env);
    if (mayBeSkipped) t.skip(sentence);
    else assert.fail(sentence);
  });
}

export function handleMissing(
  { what, missing, howToGet }: Needed<unknown>,
  env: NodeJS.ProcessEnv,
): { readonly mayBeSkipped: boolean; readonly sentence: string } {
  const lack = `the tests of ${what}: there is no ${missing}; get it with: ${howToGet}`;
  return env.CI === 'true'
    ? { mayBeSkipped: false, sentence: `with CI=true nothing is skipped, ${lack}` }
    : { mayBeSkipped: true, sentence: `skipped ${lack}` };
}

/** The first of these programs that is in one of the directories, by default those of the PATH. */
export function findProgram(
  names: readonly string[],
  directories = (process.env.PATH ?? '').split(delimiter),
): string | undefined {
  return names
    .flatMap((name) => directories.map((directory) => join(directory, name)))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
