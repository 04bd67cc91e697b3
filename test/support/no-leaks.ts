/**
 * Fails a test file that leaves anything open. It is preloaded (`--import`) into every process of
 * the test runner that runs one file; in others, and in threads, it does nothing.
 */
import path from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { createLeakCheck, exitSoon } from './leak-check.ts';

const [, main = ''] = process.argv;
const isTestFile = process.env.NODE_TEST_CONTEXT !== undefined && /\.test\.\w+$/.test(main);

if (isMainThread && isTestFile) {
  const checkAfter = createLeakCheck('whole', exitSoon);
  checkAfter(path.relative('', main));
}
