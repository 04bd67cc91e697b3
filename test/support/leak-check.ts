/**
 * Fails a test file that leaves anything open. Used in processes with one file (`no-leaks.ts`) and
 * with many (`one-process.ts`).
 */
import { AsyncResource } from 'node:async_hooks';
import { after } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { followOpenThings, type OpenThings, type Stacks } from './open-things.ts';

/**
 * Closing needs a moment. A connection that is kept open for the next request waits longer. In ms.
 */
const CLOSING_MS = 3_000;
/** For the report, in ms. */
const EXIT_MS = 1_000;

/**
 * Called after the declarations of a file, where its hooks belong to it: once its tests and hooks
 * have ended, the file fails if anything is open that was opened since the previous check.
 */
type CheckAfter = (file: string) => void;

export function createLeakCheck(stacks: Stacks, onLeak: () => void): CheckAfter {
  const things = followOpenThings(stacks);

  async function check(file: string): Promise<void> {
    const left = await untilClosed(things);
    if (left.length === 0) return;
    onLeak();
    things.killChildren();
    things.forget();
    const error = new Error(reportOf(file, left) + hintFor(file, stacks));
    // The stack of this hook would only hide the stacks of the open things.
    error.stack = '';
    throw error;
  }

  return (file) => afterEverything(() => check(file));
}

/** Ends the process although something is open, once the failure is reported. */
export function exitSoon(): void {
  setTimeout(() => process.exit(1), EXIT_MS).unref();
}

/**
 * Hooks run in the order of their creation, so the first of them creates one more after all others.
 */
function afterEverything(check: () => Promise<void>): void {
  // Bound here, outside of all hooks, so that the new one belongs to the file too.
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

function reportOf(file: string, left: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const thing of left) counts.set(thing, (counts.get(thing) ?? 0) + 1);
  const lines = [...counts].map(([thing, count]) => (count > 1 ? `${count} × ${thing}` : thing));
  return `${file} leaves open what its tests have to close (t.after):\n${lines.join('\n')}`;
}

function hintFor(file: string, stacks: Stacks): string {
  return stacks === 'whole' ? '' : `\nWith longer stacks: npm run test:files -- ${file}`;
}
