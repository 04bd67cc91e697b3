/** The outputs in the documentation are those of the commands; `outputs.e2e.test.ts` has the slow ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { operands } from '../../../src/cli/sessions/arguments.ts';
import { compareWithDocs } from './comparison.ts';
import { QUICK } from './quick.ts';
import { parseCommandLine, readShown } from './shown.ts';
import { SLOW } from './slow.ts';
import { withoutVarying } from './varying.ts';

compareWithDocs(QUICK);

test('the documentation shows the output of every command, and of every subcommand of sessions', () => {
  const shown = readShown().map(({ command }) => parseCommandLine(command));
  const names = new Set(shown.map(({ name }) => name));
  assert.deepEqual([...names].sort(), COMMANDS.map(({ name }) => name).sort());
  const ofSessions = shown.filter(({ name }) => name === 'sessions').map(({ args }) => args[0]);
  assert.deepEqual([...new Set(ofSessions)].sort(), [...operands()].sort());
});

test('every output in the documentation is compared', () => {
  const compared = new Set([...QUICK.keys(), ...SLOW.keys()]);
  const others = readShown().filter(({ command }) => !compared.has(command));
  assert.deepEqual(others, []);
});

test('only what differs from run to run is left out of the comparison', () => {
  const line = 'POST /mcp  9bca8d8d1cbb06 -> c362013765f71d  200  1 replay';
  assert.equal(
    withoutVarying(`${line}  26.0 ms`),
    withoutVarying('POST /mcp  6125db0b6a8a25 -> 9bca8d8d1cbb06  200  1 replay  5.1 ms'),
  );
  for (const other of [
    `  ${line}  26.0 ms`,
    `${line}   26.0 s`,
    `${line.replace('  1', '\n1')}  26.0 ms`,
    `${line.replace('1 replay', '0 replays')}  26.0 ms`,
    `${line.replace('c362013765f71d', '9bca8d8d1cbb06')}  26.0 ms`,
  ])
    assert.notEqual(withoutVarying(other), withoutVarying(`${line}  26.0 ms`), other);
});
