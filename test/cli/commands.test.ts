/** The command line: which command runs, and with which arguments. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import type { CommandContext } from '../../src/cli/command.ts';
import { COMMANDS, runCommand } from '../../src/cli/commands.ts';

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

function createSink(): Writable & { text(): string } {
  let text = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  return Object.assign(sink, { text: () => text });
}

for (const [argv, executed] of [
  [[], ['serve']],
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

test('--version and -v print the version', async () => {
  for (const option of ['--version', '-v']) {
    const { code, output } = await ran([option]);
    assert.equal(code, 0);
    assert.match(output, /^\d+\.\d+\.\d+\n$/);
  }
});

for (const [argv, message] of [
  [['start'], /^fly-affinity: unknown command "start". See fly-affinity --help.\n$/],
  [['--port'], /unknown command "--port"/],
  [['serve', '8080'], /^fly-affinity serve: it takes no arguments: settings are environment/],
  [['run'], /run: needs a command: fly-affinity run -- CMD/],
  [['run', '--'], /needs a command/],
  [['run', 'node', 'app.js'], /needs a command/],
  [['doctor', '--config='], /^fly-affinity doctor: --config needs a file/],
  [
    ['help', 'toes'],
    /^fly-affinity help: unknown topic "toes", the topics are .*sessions, .*stores/,
  ],
  [['help', 'sessions', 'stores'], /^fly-affinity help: one topic is expected/],
] as const) {
  test(`"fly-affinity ${argv.join(' ')}" is an error, with code 64`, async () => {
    const { code, output, errors } = await ran(argv, true);
    assert.deepEqual([code, output], [64, '']);
    assert.match(errors, message);
  });
}
