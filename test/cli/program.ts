/** The program as a process, for the tests of the command line. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface RunOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** JavaScript that runs before the program. */
  readonly before?: string;
  /** Empty by default. */
  readonly stdin?: 'pipe';
}

const FREE_PORTS = { HOST: '127.0.0.1', PORT: '0', PEER_PORT: '0', ADMIN_PORT: '0' };

export function start(
  t: TestContext,
  { args = [], env = {}, before = '', stdin }: RunOptions,
): ChildProcess {
  const child = spawn(
    process.execPath,
    [
      '--import',
      import.meta.resolve('tsx'),
      '--import',
      `data:text/javascript,${encodeURIComponent(before)}`,
      MAIN,
      ...args,
    ],
    {
      stdio: [stdin ?? 'ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, SESSION_STORE_URL: 'memory:', ...FREE_PORTS, ...env },
    },
  );
  t.after(() => child.kill('SIGKILL'));
  return child;
}

export interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

export async function run(t: TestContext, options: RunOptions): Promise<Ended> {
  const child = start(t, options);
  assert.ok(child.stdout && child.stderr);
  const [[code], output, errors] = await Promise.all([
    once(child, 'exit') as Promise<[number | null]>,
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, output, errors };
}

export type Line = Readonly<Record<string, unknown>>;

/** The lines that a program logs, until it ends; other output is skipped. */
export async function* linesOf(child: ChildProcess): AsyncGenerator<Line> {
  assert.ok(child.stdout);
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('{')) yield JSON.parse(line) as Line;
  }
}

export async function lineWithMessage(lines: AsyncGenerator<Line>, message: string): Promise<Line> {
  for (let next = await lines.next(); !next.done; next = await lines.next()) {
    if (next.value.msg === message) return next.value;
  }
  return assert.fail(`no line has "${message}"`);
}
