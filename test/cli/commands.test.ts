/** The command line: which command runs, and with which arguments. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandContext } from '../../src/cli/command.ts';
import { COMMANDS, runCommand } from '../../src/cli/commands.ts';
import { createSink } from './in-process.ts';

interface Ran {
  readonly code: number;
  /** The command that was executed, with its arguments. */
  readonly executed: readonly string[];
  readonly output: string;
  readonly errors: string;
}

/** Every command of the table, with its file replaced by one that records its arguments. */
async function ran(argv: readonly string[], isReal = false): Promise<Ran> {
  const executed: string[] = [];
  const [stdout, stderr] = [createSink(), createSink()];
  const commands = COMMANDS.map(({ name, summary }) => ({
    ...{ name, summary },
    load: () =>
      Promise.resolve({
        USAGE: `usage of ${name}`,
        execute: (args: readonly string[]) => {
          executed.push(name, ...args);
          return Promise.resolve(7);
        },
      }),
  }));
  const context = { stdout, stderr, commands: isReal ? COMMANDS : commands };
  const code = await runCommand(argv, context as unknown as CommandContext);
  return { code, executed, output: stdout.text(), errors: stderr.text() };
}

for (const [argv, executed] of [
  [[], ['help']],
  [['serve'], ['serve']],
  [
    ['run', '--', 'node', 'app.js', '--help'],
    ['run', '--', 'node', 'app.js', '--help'],
  ],
  [
    ['run', '--', '--odd'],
    ['run', '--', '--odd'],
  ],
  [
    ['simulate', '--machines', '2'],
    ['simulate', '--machines', '2'],
  ],
  [
    ['sessions', 'list', '--help'],
    ['sessions', 'list', '--help'],
  ],
  [['--help'], ['help']],
  [['-h'], ['help']],
  [['help'], ['help']],
  [
    ['help', 'stores'],
    ['help', 'stores'],
  ],
] as const) {
  test(`"fly-affinity ${argv.join(' ')}" executes "${executed.join(' ')}"`, async () => {
    const { code, executed: actual, errors } = await ran(argv);
    assert.deepEqual([code, actual, errors], [7, executed, '']);
  });
}

for (const { name } of COMMANDS) {
  test(`"fly-affinity ${name} --help" prints the usage of ${name}`, async () => {
    for (const option of ['--help', '-h']) {
      const { code, executed, output } = await ran([name, option]);
      assert.deepEqual([code, executed, output], [0, [], `usage of ${name}`]);
    }
    assert.match((await ran([name, '-h'], true)).output, /^Usage: fly-affinity /);
  });
}

test('--version, -V and -v print the version', async () => {
  for (const option of ['--version', '-V', '-v']) {
    const { code, output } = await ran([option]);
    assert.equal(code, 0);
    assert.match(output, /^\d+\.\d+\.\d+\n$/);
  }
});

test('"fly-affinity version" prints the version too', async () => {
  const { code, output } = await ran(['version'], true);
  assert.deepEqual([code, output], [0, (await ran(['-V'])).output]);
});

test('bare "fly-affinity" prints the overview', async () => {
  const { code, output, errors } = await ran([], true);
  assert.deepEqual([code, errors], [0, '']);
  assert.match(output, /^Usage: fly-affinity \[COMMAND\]$/m);
  assert.ok(output.split('\n').length <= 24, 'it fits a small terminal');
});

for (const name of ['run', 'serve', 'simulate', 'doctor', 'completion']) {
  test(`"fly-affinity help ${name}" prints the usage of ${name}`, async () => {
    const { code, output } = await ran(['help', name], true);
    assert.deepEqual([code, output], [0, (await ran([name, '--help'], true)).output]);
  });
}

test('--help is found behind other options of simulate, but not behind --', async () => {
  const { code, output } = await ran(['simulate', '--machines', '2', '-h'], true);
  assert.equal(code, 0);
  assert.match(output, /^Usage: fly-affinity simulate/);
  const { code: wrong } = await ran(['simulate', '--odd', '--', 'app', '--help'], true);
  assert.equal(wrong, 64);
});

for (const [argv, message] of [
  [['start'], /^fly-affinity: unknown command "start". See fly-affinity --help.\n$/],
  [['--port'], /unknown command "--port"/],
  [['serve', '8080'], /^fly-affinity serve: it takes no arguments: settings are environment/],
  [['dashboard', 'x'], /^fly-affinity dashboard: it takes no arguments/],
  [['alerts', '--json'], /^fly-affinity alerts: it takes no arguments/],
  [['run'], /run: needs a command: fly-affinity run -- CMD/],
  [['run', '--'], /needs a command/],
  [['run', 'node', 'app.js'], /needs a command/],
  [['doctor', '--config='], /^fly-affinity doctor: --config needs a file/],
  [
    ['help', 'toes'],
    /^fly-affinity help: unknown topic "toes", the topics are .*sessions, .*stores/,
  ],
  [['version', 'x'], /^fly-affinity version: it takes no arguments/],
  [['completion'], /^fly-affinity completion: needs a shell: bash, zsh or fish. See/],
  [['completion', 'tcsh'], /needs a shell/],
  [['completion', 'bash', 'zsh'], /needs a shell/],
  [['help', 'sessions', 'stores'], /^fly-affinity help: one topic is expected/],
] as const) {
  test(`"fly-affinity ${argv.join(' ')}" is an error, with code 64`, async () => {
    const { code, output, errors } = await ran(argv, true);
    assert.deepEqual([code, output], [64, '']);
    assert.match(errors, message);
  });
}
