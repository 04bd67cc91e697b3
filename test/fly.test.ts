import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  appName,
  deployedMachinesName,
  formatMachinesTxt,
  formatReplay,
  formatReplayFailure,
  formatReplaySource,
  machineName,
  parseMachinesTxt,
  parseReplay,
  parseReplayCacheStatus,
  parseReplayFailure,
  parseReplaySource,
  processGroupName,
  runningMachinesName,
  type ReplayFailure,
  type ReplayInstruction,
  type ReplaySource,
} from '../src/fly.ts';
import { machine } from './protocols/heads.ts';

const M1 = machine('148ed599c14189');

// prettier-ignore
const REPLAYS: readonly (readonly [text: string, instruction: ReplayInstruction])[] = [
  ['instance=148ed599c14189', { instance: M1 }],
  ['prefer_instance=148ed599c14189', { preferInstance: M1 }],
  ['region=iad', { region: 'iad' }],
  ['region="iad,any"', { region: 'iad,any' }],
  ['app=other', { app: 'other' }],
  ['elsewhere=true', { isElsewhere: true }],
  ['app=other;state=abc', { app: 'other', state: 'abc' }],
  ['app=other;state="a;b c"', { app: 'other', state: 'a;b c' }],
  ['instance=148ed599c14189;timeout=10s;fallback=prefer_self', { instance: M1, timeoutMs: 10_000, fallback: 'prefer_self' }],
  ['elsewhere=true;timeout=800ms;fallback=force_self', { isElsewhere: true, timeoutMs: 800, fallback: 'force_self' }],
  ['instance=148ed599c14189;timeout=0s', { instance: M1, timeoutMs: 0 }],
];
for (const [text, instruction] of REPLAYS) {
  test(`fly-replay: ${text} is formatted and parsed`, () => {
    assert.equal(formatReplay(instruction), text);
    assert.deepEqual(parseReplay(text), instruction);
  });
}

// prettier-ignore
const READ_REPLAYS: readonly (readonly [text: string, instruction: ReplayInstruction | undefined])[] = [
  [' instance = a1 ; region = iad ;', { instance: 'a1', region: 'iad' }],
  ['Instance=a1', { instance: 'a1' }],
  ['instance=a1;instance=b2', { instance: 'a1' }],
  ['instance=a1;timeout=soon;fallback=nobody;elsewhere=yes', { instance: 'a1' }],
  ['instance=a1;timeout=10', { instance: 'a1' }],
  ['instance=a1;timeout=-1s', { instance: 'a1' }],
  ['instance=a1;unknown=1;flag', { instance: 'a1' }],
  ['state=abc;timeout=10s', undefined],
  ['elsewhere=false', undefined],
  ['instance=', undefined],
  ['instance=""', undefined],
  ['=a1', undefined],
  ['', undefined],
  [';;;', undefined],
  ['__proto__=a', undefined],
];
for (const [text, instruction] of READ_REPLAYS) {
  test(`fly-replay: "${text}" ${instruction ? 'is tolerated' : 'names no target'}`, () => {
    assert.deepEqual(parseReplay(text), instruction);
  });
}

test('fly-replay: values that would break a header or a field are excluded', () => {
  const text = formatReplay({ instance: 'a\r\nset-cookie: x', state: 'a"b\\c\0dé' });
  assert.equal(text, 'instance="aset-cookie: x";state=abcd');
});

// prettier-ignore
const SOURCES: readonly (readonly [text: string, source: ReplaySource])[] = [
  ['instance=148ed599c14189;region=iad;t=1717171717171717;state=abc', { instance: M1, region: 'iad', timestampMicros: 1717171717171717, state: 'abc' }],
  ['instance=148ed599c14189', { instance: M1 }],
];
for (const [text, source] of SOURCES) {
  test(`fly-replay-src: ${text} is formatted and parsed`, () => {
    assert.equal(formatReplaySource(source), text);
    assert.deepEqual(parseReplaySource(text), source);
  });
}

// prettier-ignore
const READ_SOURCES: readonly (readonly [text: string, source: ReplaySource])[] = [
  ['instance=a1, region=iad, t=5', { instance: machine('a1'), region: 'iad', timestampMicros: 5 }],
  ['instance=a1;state=a=b,c', { instance: machine('a1'), state: 'a=b,c' }],
  ['instance=NOT A MACHINE;region=iad', { region: 'iad' }],
  ['t=99999999999999999999', {}],
  ['t=1e3', {}],
  ['t=-1', {}],
  ['', {}],
  ['junk', {}],
  ['"', {}],
  ['=;=,"=;', {}],
];
for (const [text, source] of READ_SOURCES) {
  test(`fly-replay-src: "${text}" is parsed without an error`, () => {
    assert.deepEqual(parseReplaySource(text), source);
  });
}

// prettier-ignore
const FAILURES: readonly (readonly [text: string, failure: ReplayFailure])[] = [
  ['instance=148ed599c14189;app=a;region=iad;replay_source=b;reason=timeout;elapsed_ms=10000', { instance: M1, app: 'a', region: 'iad', replaySource: 'b', reason: 'timeout', elapsedMs: 10_000 }],
  ['reason=retries_exhausted', { reason: 'retries_exhausted' }],
  ['reason=no_candidate;elapsed_ms=0', { reason: 'no_candidate', elapsedMs: 0 }],
];
for (const [text, failure] of FAILURES) {
  test(`fly-replay-failed: ${text} is formatted and parsed`, () => {
    assert.equal(formatReplayFailure(failure), text);
    assert.deepEqual(parseReplayFailure(text), failure);
  });
}

test('fly-replay-failed: malformed fields are omitted', () => {
  assert.deepEqual(parseReplayFailure('instance=?;reason=boredom;elapsed_ms=x;app=a'), {
    app: 'a',
  });
});

// prettier-ignore
const CACHE_STATUSES = [
  ['hit', 'hit'], ['miss', 'miss'], ['bypass', 'bypass'], [' HIT ', 'hit'], ['', undefined], ['hit, hit', undefined],
] as const;
for (const [text, status] of CACHE_STATUSES) {
  test(`fly-replay-cache-status: "${text}" is ${status ?? 'junk'}`, () => {
    assert.equal(parseReplayCacheStatus(text), status);
  });
}

test('invalid input never throws', () => {
  const junk = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('instance', '=', ';', ',', '"', ' ', 'a1', 'timeout', '1s'),
    }),
  );
  fc.assert(
    fc.property(junk, (text) => {
      for (const parse of [parseReplay, parseReplaySource, parseReplayFailure]) parse(text);
      parseReplayCacheStatus(text);
      parseMachinesTxt([[text], [text, text]]);
      assert.match(formatReplay({ instance: text, state: text }), /^[\x20-\x7e]*$/);
    }),
  );
});

test('formatted text is parsed to the same value', () => {
  const text = fc.stringMatching(/^[a-z0-9;,=:/ ]{0,20}[a-z0-9]$/).map((value) => value.trim());
  fc.assert(
    fc.property(text, text, fc.nat(), (instance, state, timeoutMs) => {
      const instruction = { instance, state, timeoutMs };
      assert.deepEqual(parseReplay(formatReplay(instruction)), instruction);
    }),
  );
});

test('names of the private network', () => {
  assert.equal(machineName('app', 'a1'), 'a1.vm.app.internal');
  assert.equal(runningMachinesName('app'), 'vms.app.internal');
  assert.equal(deployedMachinesName('app'), 'all.vms.app.internal');
  assert.equal(appName('app'), 'app.internal');
  assert.equal(processGroupName('app', 'web'), 'web.process.app.internal');
});

const LISTED = [
  { id: machine('a1'), region: 'iad' },
  { id: machine('b2'), region: 'ams' },
];

// prettier-ignore
const LISTS: readonly (readonly [claim: string, records: string[][], machines: typeof LISTED])[] = [
  ['one record', [['a1 iad,b2 ams']], LISTED],
  ['spaces', [[' a1  iad , b2 ams ']], LISTED],
  ['several records', [['a1 iad'], ['b2 ams']], LISTED],
  ['a record of several strings', [['a1 i', 'ad,b', '2 ams']], LISTED],
  ['a Machine twice', [['a1 iad,b2 ams,a1 lhr']], LISTED],
  ['no region', [['a1']], [{ id: machine('a1'), region: '' }]],
  ['junk', [['', ',,', 'A1 iad,../ iad,b-2 x']], []],
  ['nothing', [], []],
];
for (const [claim, records, machines] of LISTS) {
  test(`Machines are parsed from ${claim}`, () => {
    assert.deepEqual(parseMachinesTxt(records), machines);
  });
}

test('a list of any length is split into strings that DNS can carry', () => {
  const machines = Array.from({ length: 200 }, (_, i) => ({ id: machine(`m${i}`), region: 'iad' }));
  const records = formatMachinesTxt(machines);
  assert.ok(records.flat().every((text) => text.length > 0 && text.length <= 255));
  assert.deepEqual(parseMachinesTxt(records), machines);
  assert.deepEqual(formatMachinesTxt([]), []);
});
