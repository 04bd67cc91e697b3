import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseSessionsArguments,
  type SessionsCommand,
} from '../../../src/cli/sessions/arguments.ts';
import type { Where } from '../../../src/cli/sessions/arguments.ts';
import { parseSessionId } from '../../../src/session.ts';
import { keyOf, machineId } from '../../support/ids.ts';

const KEY = keyOf('one');
const ALL = { owner: undefined, limit: undefined };

function idOf(text: string): Extract<SessionsCommand, { kind: 'get' }>['session'] {
  const id = parseSessionId(text);
  assert.ok(id);
  return { kind: 'id', id };
}

const COMMANDS: readonly (readonly [args: readonly string[], command: SessionsCommand])[] = [
  [['list'], { kind: 'list', selection: ALL, isJson: false }],
  [
    ['list', '--json', '--limit', '5'],
    { kind: 'list', selection: { ...ALL, limit: 5 }, isJson: true },
  ],
  [
    ['list', '--owner=a1'],
    { kind: 'list', selection: { ...ALL, owner: machineId('a1') }, isJson: false },
  ],
  [['get', 'one'], { kind: 'get', session: idOf('one'), isJson: false }],
  [['get', '-', '--json'], { kind: 'get', session: { kind: 'id-on-stdin' }, isJson: true }],
  [['get', '--', '-one'], { kind: 'get', session: idOf('-one'), isJson: false }],
  [['get', '--key', KEY], { kind: 'get', session: { kind: 'key', key: KEY }, isJson: false }],
  [['delete', 'one'], { kind: 'delete', session: idOf('one'), ifOwner: undefined }],
  [
    ['delete', 'one', '--if-owner', 'a1'],
    { kind: 'delete', session: idOf('one'), ifOwner: machineId('a1') },
  ],
  [['export'], { kind: 'export', file: undefined }],
  [['export', '-'], { kind: 'export', file: undefined }],
  [['export', 'a.jsonl'], { kind: 'export', file: 'a.jsonl' }],
  [['import'], { kind: 'import', file: undefined, isDryRun: false }],
  [['import', '--dry-run', 'a.jsonl'], { kind: 'import', file: 'a.jsonl', isDryRun: true }],
];

for (const [args, command] of COMMANDS) {
  test(`"sessions ${args.join(' ')}" is accepted`, () => {
    assert.deepEqual(parseSessionsArguments(args), {
      kind: 'command',
      command,
      where: { kind: 'default' },
    });
  });
}

const WHERE: readonly (readonly [args: readonly string[], where: Where])[] = [
  [['--direct'], { kind: 'configured' }],
  [['--store', 'sqlite:/data/a.sqlite'], { kind: 'file', path: '/data/a.sqlite' }],
  [['--store', 'sqlite:a.sqlite'], { kind: 'file', path: 'a.sqlite' }],
  [
    ['--store', 'rediss://u:p@host/1'],
    { kind: 'database', url: { kind: 'redis', href: 'rediss://u:p@host/1' } },
  ],
  [['--admin', 'http://host:9091'], { kind: 'sidecar', url: new URL('http://host:9091') }],
];

for (const [args, where] of WHERE) {
  test(`"sessions export ${args.join(' ')}" selects the source of the sessions`, () => {
    const command = { kind: 'export', file: undefined };
    assert.deepEqual(parseSessionsArguments(['export', ...args]), {
      kind: 'command',
      command,
      where,
    });
  });
}

for (const args of [['--help'], ['-h'], ['list', '--help'], ['get', '-h']]) {
  test(`"sessions ${args.join(' ')}" requests help`, () => {
    assert.deepEqual(parseSessionsArguments(args), { kind: 'help' });
  });
}

const ONE_SESSION = /^one session is expected: its id, "-" to read .*, or --key$/;
const MISTAKES: readonly (readonly [args: readonly string[], message: RegExp])[] = [
  [[], /^one of list, get, delete, export, import must come first$/],
  [['show'], /must come first/],
  [['list', 'one'], /^list takes no arguments but options$/],
  [['list', '--limit', '0'], /^--limit must be a whole number from 1 to \d+, got "0"$/],
  [['list', '--owner', 'A1'], /^--owner must be a Machine id/],
  [['list', '--dry-run'], /^--dry-run cannot be used with this command$/],
  [['list', '--owner'], /'--owner <value>' argument missing/],
  [['list', '--onwer', 'a1'], /^unknown option \(put "--" before an id/],
  [['get'], ONE_SESSION],
  [['get', ''], ONE_SESSION],
  [['get', 'one', 'two'], ONE_SESSION],
  [['get', 'one', '--key', KEY], ONE_SESSION],
  [['get', 'a\tb'], /^the id must be 1 to 32768 bytes without control characters$/],
  [['get', '--key', 'one'], /^--key must be 32 digits of 0-9 and a-f, as "list" shows them$/],
  [['delete', 'one', '--if-owner', '?'], /^--if-owner must be a Machine id/],
  [['export', 'a', 'b'], /^only one file can be given$/],
  [['import', '--json'], /^--json cannot be used with this command$/],
  [['list', '--direct', '--store', 'sqlite:a'], /^only one of --admin, --direct and --store/],
  [['list', '--store', 'memory:'], /^--store must be sqlite:PATH, redis:\/\/HOST/],
  [['list', '--store', 'sqlite:'], /^--store must be sqlite:PATH/],
  [['list', '--store', 'sqlite:/data/'], /^--store sqlite: must be the path of a file, got/],
  [['list', '--store', 'redis://:s3cret@'], /^--store must be sqlite:PATH, redis:\/\/HOST[^@]*$/],
  [['list', '--admin', 'https://host'], /^--admin must be an http: origin without path/],
];

for (const [args, message] of MISTAKES) {
  test(`"sessions ${args.join(' ')}" is an error`, () => {
    const parsed = parseSessionsArguments(args);
    assert.ok(parsed.kind === 'mistakes');
    assert.equal(parsed.mistakes.length, 1);
    assert.match(parsed.mistakes[0] ?? '', message);
  });
}

test('every error is reported at once', () => {
  const parsed = parseSessionsArguments(['list', 'x', '--limit', 'y', '--owner', 'Z', '--dry-run']);
  assert.equal(parsed.kind === 'mistakes' && parsed.mistakes.length, 4);
});
