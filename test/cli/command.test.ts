import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommand, type Command } from '../../src/cli/command.ts';

const COMMANDS: readonly (readonly [argv: readonly string[], command: Command])[] = [
  [[], { kind: 'serve' }],
  [['serve'], { kind: 'serve' }],
  [
    ['run', '--', 'node', 'app.js', '--help'],
    { kind: 'run', command: ['node', 'app.js', '--help'] },
  ],
  [['run', '--', '--odd'], { kind: 'run', command: ['--odd'] }],
  [['simulate', '--machines', '2'], { kind: 'simulate', args: ['--machines', '2'] }],
  [['sessions', 'list', '--help'], { kind: 'sessions', args: ['list', '--help'] }],
  [['--help'], { kind: 'help' }],
  [['-h'], { kind: 'help' }],
  [['help'], { kind: 'help' }],
  [['serve', '--help'], { kind: 'help' }],
  [['run', '--help'], { kind: 'help' }],
  [['--version'], { kind: 'version' }],
  [['-v'], { kind: 'version' }],
];

for (const [argv, command] of COMMANDS) {
  test(`"${argv.join(' ')}" is ${command.kind}`, () => {
    assert.deepEqual(parseCommand(argv), command);
  });
}

const MISTAKES: readonly (readonly [argv: readonly string[], message: RegExp])[] = [
  [['start'], /unknown command "start"/],
  [['--port'], /unknown command "--port"/],
  [['serve', '8080'], /serve takes no arguments/],
  [['run'], /run wants the command/],
  [['run', '--'], /run wants the command/],
  [['run', 'node', 'app.js'], /run wants the command/],
];

for (const [argv, message] of MISTAKES) {
  test(`"${argv.join(' ')}" is a mistake`, () => {
    const command = parseCommand(argv);
    assert.equal(command.kind, 'mistake');
    assert.match(command.message, message);
  });
}
