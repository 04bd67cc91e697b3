/**
 * Notices that a test uses the folder of the default SESSION_STORE_PATH. It belongs to the computer:
 * a test passes a path of its own, or `memory:`. The sidecar and `doctor` look at the folder on the
 * main thread before anything opens the file.
 */
import assert from 'node:assert/strict';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const FOLDER = '/data';
const METHODS = ['access', 'mkdir', 'open', 'stat', 'statfs', 'writeFile'] as const;

/** Follows the whole process. The result throws if the folder was used since its last call. */
export function watchDefaultStore(): () => void {
  let uses: string[] = [];
  for (const method of METHODS) {
    const original = promises[method] as (...args: unknown[]) => unknown;
    const watched = (...args: unknown[]): unknown => {
      const path = String(args[0]);
      if (path === FOLDER || path.startsWith(`${FOLDER}/`)) {
        uses.push(new Error(`${method} ${path}: set SESSION_STORE_PATH in this test`).stack ?? '');
      }
      return original(...args);
    };
    Object.assign(promises, { [method]: watched });
  }
  syncBuiltinESMExports();
  return () => {
    const found = uses;
    uses = [];
    assert.equal(found.length, 0, found.join('\n'));
  };
}
