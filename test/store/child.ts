/** Child processes that use a test's file; each runs a script of this folder. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export interface Child {
  /** All lines printed so far. */
  readonly lines: readonly string[];
  /** Resolves once that many lines are printed, or the process has ended. */
  printed(count: number): Promise<void>;
  /** Signals the process to continue: its standard input ends. */
  go(): void;
  kill(): void;
  /** Resolves with the exit code, null if it was killed, once all its output is in `lines`. */
  readonly ended: Promise<number | null>;
}

interface ChildOptions {
  /** Runs as another user. */
  readonly uid?: number;
  /** A program and its arguments, placed before those of Node.js. */
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
  // Node itself strips the types.
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
