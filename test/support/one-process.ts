/**
 * Runs test files in this process, one after the other. Each is a suite: the hooks at the top of a
 * file belong to it, and it fails if it leaves something open or changes the process.
 */
import { after, describe } from 'node:test';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { bundleWriter } from './bundled-writer.ts';
import { watchDefaultStore } from './default-store.ts';
import { forgetHooks } from './forget-hooks.ts';
import { createLeakCheck, exitSoon } from './leak-check.ts';
import './property-seed.ts';

/** Of one file. */
const TIMEOUT_MS = 120_000;

export async function runInOneProcess(files: readonly string[]): Promise<void> {
  await bundleWriter();
  await forgetHooks();
  const checkDefaultStore = watchDefaultStore();
  let leakCount = 0;
  const checkAfter = createLeakCheck('short', () => void (leakCount += 1));
  for (const file of files) {
    // It ends before the next file is loaded, so everything that is left open is its own.
    await describe(file, { timeout: TIMEOUT_MS }, async () => {
      await import(pathToFileURL(path.resolve(file)).href);
      after(checkDefaultStore);
      checkAfter(file);
    });
  }
  if (leakCount > 0) exitSoon();
}
