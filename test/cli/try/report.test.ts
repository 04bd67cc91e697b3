import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adviceFor } from '../../../src/cli/try/app-check.ts';
import { seededRandom } from '../../../src/cli/try/random.ts';
import {
  formatComparison,
  formatCutShort,
  formatSessions,
  verdictOf,
} from '../../../src/cli/try/report.ts';
import { styleFor } from '../../../src/cli/try/style.ts';
import { summaryOf } from '../../../src/cli/try/summary.ts';
import type { TrialCall } from '../../../src/cli/try/traffic.ts';
import type { TrialResult } from '../../../src/cli/try/trial.ts';
import type { MachineId } from '../../../src/session.ts';

const A = 'aaaa' as MachineId;
const B = 'bbbb' as MachineId;
const PLAIN = styleFor(false, {});

function call(overrides: Partial<TrialCall> = {}): TrialCall {
  return { machine: A, replays: 0, ms: 2, loss: undefined, isElsewhere: false, ...overrides };
}

function resultOf(calls: readonly TrialCall[], sidecar?: number): TrialResult {
  const memory = { app: 50_000_000, sidecar };
  const sessions = [{ key: '01234567', machine: A, calls }];
  return { sessions, cutShort: undefined, callsPlanned: calls.length, memory, lastLines: [] };
}

const LOST = call({ machine: B, loss: { how: 'unknown-session', why: '404 Session not found' } });
const WITHOUT = resultOf([call(), LOST, LOST, call({ machine: B, isElsewhere: true })]);
const WITH = resultOf([call(), call({ replays: 1, ms: 4 }), call(), call()], 90_000_000);

test('each call has its mark, and each reason its count', () => {
  assert.equal(
    formatSessions(WITHOUT, [{ id: B }, { id: A }], PLAIN),
    [
      '  session   Machine  calls  lost',
      '  01234567  2        .xxo   2: 404 Session not found; 1: another Machine answered',
    ].join('\n'),
  );
});

test('a call that was not made has its mark, and the reason is said', () => {
  const result: TrialResult = { ...WITHOUT, callsPlanned: 6, cutShort: 'silence' };
  assert.match(
    formatSessions(result, [{ id: A }], PLAIN),
    /\.xxo-- {2}2: 404 Session not found; 1: another Machine answered; 2 not made$/,
  );
  assert.match(formatComparison({ without: result, affine: WITH }, PLAIN), /not made +2 +0\n/);
  assert.match(formatCutShort(result)[0] ?? '', /5 had no response in time/);
  assert.match(formatCutShort({ ...result, cutShort: 'time' })[0] ?? '', /the time was up/);
  assert.deepEqual(formatCutShort(WITHOUT), []);
});

test('both results stand side by side', () => {
  assert.equal(
    formatComparison({ without: WITHOUT, affine: WITH }, PLAIN),
    [
      '                                  without  with fly-affinity',
      '  calls that found their session  1 of 4   4 of 4',
      '    404 Session not found         2        0',
      '    another Machine answered      1        0',
      '  calls that Fly Proxy replayed   0        1',
      '  time of a call, median          2.0 ms   2.0 ms',
      '  time of a call, 95 of 100       2.0 ms   4.0 ms',
      '  memory of a Machine             50 MB    50 MB, and 90 MB for the sidecar',
    ].join('\n'),
  );
});

test('the verdict is good only if no call is lost with the sidecar', () => {
  const verdict = verdictOf({ without: WITHOUT, affine: WITH }, true);
  assert.equal(verdict.isGood, true);
  assert.deepEqual(verdict.sentences, [
    'With fly-affinity every call found its session; without it, 3 of 4 did not.',
    'Where you deploy the app from, fly-affinity init puts it into the Dockerfile and fly.toml.',
  ]);
  assert.equal(verdictOf({ without: WITH, affine: WITHOUT }, true).isGood, false);
  const [first] = verdictOf({ without: WITH, affine: WITH }, true).sentences;
  assert.equal(first, 'No call lost its session, with or without fly-affinity.');
});

test('a trial without calls is not good', () => {
  assert.equal(verdictOf({ without: resultOf([]), affine: resultOf([]) }, true).isGood, false);
});

test('a summary counts a call that was replayed twice once', () => {
  assert.equal(summaryOf(resultOf([call({ replays: 2 }), call()])).replayed, 1);
});

test('colours are for terminals without NO_COLOR, and do not widen a column', () => {
  for (const [isTerminal, env] of [
    [false, {}],
    [true, { NO_COLOR: '1' }],
    [true, { TERM: 'dumb' }],
  ] as const) {
    assert.equal(styleFor(isTerminal, env).bad('x'), 'x');
  }
  const style = styleFor(true, { NO_COLOR: '' });
  assert.equal(style.bad('x'), '\x1b[31mx\x1b[39m');
  const coloured = formatSessions(WITHOUT, [{ id: A }], style);
  assert.equal(coloured.replace(/\x1b\[\d+m/g, ''), formatSessions(WITHOUT, [{ id: A }], PLAIN));
});

test('the advice about a port replaces it where the command names it', () => {
  const advice = (command: string): string =>
    adviceFor(command.split(' '), 'http://127.0.0.1:3000', 20_001)[3] ?? '';
  const begin = `  fly-affinity try -- sh -c 'exec `;
  assert.equal(advice('python app.py --port=3000'), `${begin}python app.py --port=$PORT'`);
  assert.equal(advice('python app.py'), `${begin}python app.py --port $PORT'`);
  assert.equal(advice("sh -c 'app 3000'"), `${begin}CMD --port $PORT'`);
});

test('an app on its port at another address is told so', () => {
  assert.deepEqual(adviceFor(['app'], 'http://[::1]:3000', 3000), [
    'The app listens at http://[::1]:3000, and not on 127.0.0.1: let it listen on 127.0.0.1 or 0.0.0.0.',
  ]);
});

test('the same seed gives the same numbers, from 0 to below 1', () => {
  const numbersOf = (seed: number): number[] => Array.from({ length: 50 }, seededRandom(seed));
  assert.deepEqual(numbersOf(7), numbersOf(7));
  assert.notDeepEqual(numbersOf(7), numbersOf(8));
  assert.ok(numbersOf(7).every((number) => number >= 0 && number < 1));
});
