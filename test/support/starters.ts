/** Processes that have loaded everything and then do at once what is theirs. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { text } from 'node:stream/consumers';

/**
 * Starts the script so often, each with arguments of its own; resolves with what they print once
 * they were all let go. A script prints `ready` and waits for the end of its standard input.
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
  // Node itself takes the types away.
  const child = spawn(process.execPath, ['--no-warnings', script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [ready] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(String(ready), 'ready\n');
  return async () => {
    child.stdin.end();
    const [output, exit] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    // Node's code for a promise at the top that nothing is left to settle is 13.
    assert.equal(exit[0], 0);
    return output.trim();
  };
}
