/** Processes that are fully loaded and then start their work at the same moment. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { text } from 'node:stream/consumers';

/**
 * Starts the script several times, each with its own arguments; resolves with their output once
 * they were all released. A script prints `ready` and waits for the end of its standard input.
 */
export async function startAtOnce(
  t: TestContext,
  script: string,
  argumentsOf: readonly (readonly string[])[],
): Promise<string[]> {
  const starters = await Promise.all(argumentsOf.map((args) => start(t, script, args)));
  return Promise.all(starters.map((go) => go()));
}

async function start(
  t: TestContext,
  script: string,
  args: readonly string[],
): Promise<() => Promise<string>> {
  // Node itself strips the types.
  const child = spawn(process.execPath, ['--no-warnings', script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [ready] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(String(ready), 'ready\n');
  return async () => {
    child.stdin.end();
    const [output, exit] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    // Node's exit code for a top-level promise that can no longer resolve is 13.
    assert.equal(exit[0], 0);
    return output.trim();
  };
}
