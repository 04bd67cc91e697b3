/** Other processes that work on a test's file, each running a script beside this one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export interface Child {
  /** All that it has printed so far. */
  readonly lines: readonly string[];
  /** Resolves once so many lines were printed, or it has ended. */
  printed(count: number): Promise<void>;
  /** Tells it to go on: its standard input ends. */
  go(): void;
  kill(): void;
  /** Resolves with its exit code, null if it was killed, once all it printed is in `lines`. */
  readonly ended: Promise<number | null>;
}

export interface ChildOptions {
  /** As another user. */
  readonly uid?: number;
  /** A program and its arguments, before those of Node.js. */
  readonly through?: readonly string[];
}

/** The process is killed after the test. */
export function startChild(
  t: TestContext,
  script: string,
  args: readonly string[],
  { uid, through = [] }: ChildOptions = {},
): Child {
  const path = fileURLToPath(new URL(script, import.meta.url));
  // Node itself takes the types away.
  const [program = '', ...rest] = [...through, process.execPath, '--no-warnings', path, ...args];
  const child = spawn(program, rest, {
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(uid !== undefined && { uid, gid: uid }),
  });
  t.after(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  const reader = createInterface(child.stdout).on('line', (line) => lines.push(line));
  let hasEnded = false;
  const ended = Promise.all([once(child, 'exit'), once(reader, 'close')]).then(([[code]]) => {
    hasEnded = true;
    return code as number | null;
  });
  return {
    lines,
    printed: async (count) => {
      while (lines.length < count && !hasEnded) await Promise.race([once(reader, 'line'), ended]);
    },
    go: () => void child.stdin.end(),
    kill: () => void child.kill('SIGKILL'),
    ended,
  };
}
