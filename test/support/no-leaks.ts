/**
 * Fails a test file that leaves anything open. It is preloaded (`--import`) into every process of the
 * test runner; in others, and in threads, it does nothing.
 */
import { AsyncResource } from 'node:async_hooks';
import path from 'node:path';
import { after } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isMainThread } from 'node:worker_threads';
import { followOpenThings, type OpenThings } from './open-things.ts';

/** Closing takes a moment. A connection that is kept open for the next request waits longer. In ms. */
const CLOSING_MS = 3_000;
/** For the report, in ms. What is left would keep the process alive for good. */
const EXIT_MS = 1_000;

const [, main = ''] = process.argv;
const isTestFile = process.env.NODE_TEST_CONTEXT !== undefined && /\.test\.\w+$/.test(main);
if (isMainThread && isTestFile) failOnLeaks(followOpenThings());

function failOnLeaks(things: OpenThings): void {
  afterEverything(async () => {
    const left = await untilClosed(things);
    if (left.length === 0) return;
    things.killChildren();
    setTimeout(() => process.exit(1), EXIT_MS).unref();
    const error = new Error(reportOf(left));
    // Ours would stand among those of the things.
    error.stack = '';
    throw error;
  });
}

/** Hooks run in the order of their making, so the first of them makes one more behind all others. */
function afterEverything(check: () => Promise<void>): void {
  // Bound to here, which is outside of all hooks, so that the new one belongs to the file too.
  const addLast = AsyncResource.bind(() => after(check));
  after(addLast);
}

async function untilClosed(things: OpenThings): Promise<string[]> {
  const deadline = performance.now() + CLOSING_MS;
  let left = things.list();
  while (left.length > 0 && performance.now() < deadline) {
    await nextTurn();
    left = things.list();
  }
  return left;
}

function reportOf(left: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const thing of left) counts.set(thing, (counts.get(thing) ?? 0) + 1);
  const lines = [...counts].map(([thing, count]) => (count > 1 ? `${count} × ${thing}` : thing));
  const file = path.relative('', main);
  return `${file} leaves open what its tests have to close (t.after):\n${lines.join('\n')}`;
}
