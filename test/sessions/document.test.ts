import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Binding } from '../../src/session.ts';
import {
  DocumentReader,
  formatDocument,
  type DocumentItem,
  formatEnd,
  formatSession,
  HEAD,
} from '../../src/sessions/document.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { anyBinding } from './arbitraries.ts';

function bindingOf(id: string): Binding {
  const created = { origin: 'learned', generation: 1, createdAt: 1, expiresAt: 2 } as const;
  return { key: keyOf(id), machine: machineId('a1'), ...created };
}

const ONE = formatSession(bindingOf('one'));
const END = formatEnd(1);

async function textOf(bindings: readonly Binding[]): Promise<string> {
  let text = '';
  for await (const chunk of formatDocument(each(bindings))) text += chunk;
  return text;
}

async function* each(bindings: readonly Binding[]): AsyncGenerator<Binding> {
  await Promise.resolve();
  yield* bindings;
}

/** The findings of the reader, for a text that arrives in pieces of so many bytes. */
function read(text: string, pieceBytes = text.length + 1): DocumentItem[] {
  const reader = new DocumentReader();
  const bytes = Buffer.from(text);
  const findings: DocumentItem[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    findings.push(...reader.push(bytes.subarray(at, at + pieceBytes)));
  }
  return [...findings, ...reader.end()];
}

/** Each finding as one text. */
function textsOf(findings: readonly DocumentItem[]): string[] {
  return findings.map((finding) =>
    finding.kind === 'session'
      ? `${finding.line} session`
      : `${finding.line} ${finding.kind}: ${finding.problem}`,
  );
}

test('a written export is read, however it is split into pieces', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyBinding), fc.integer({ min: 1, max: 400 }), async (all, bytes) => {
      const findings = read(await textOf(all), bytes);
      assert.deepEqual(
        findings.map((finding) => finding.kind === 'session' && finding.binding),
        all,
      );
    }),
  );
});

test('any input is read to its end, with the same findings however it is split', () => {
  const line = fc.constantFrom(HEAD, ONE, END, formatEnd(2), '', 'x', ' ', 'x'.repeat(3_000), 'ä');
  const text = fc.array(line).map((lines) => lines.join('\n'));
  fc.assert(
    fc.property(text, fc.integer({ min: 1, max: 400 }), (input, bytes) => {
      assert.deepEqual(read(input, bytes), read(input));
    }),
  );
});

test('a million sessions are written a piece at a time', async () => {
  let input = 0;
  async function* endless(): AsyncGenerator<Binding> {
    await Promise.resolve();
    for (;;) {
      input += 1;
      yield bindingOf('one');
    }
  }
  const chunks = formatDocument(endless());
  for (let taken = 1; taken <= 10; taken += 1) {
    const next: IteratorResult<string> = await chunks.next();
    assert.ok(!next.done && next.value.length < 40_000);
    assert.ok(input < taken * 400, `${input} sessions were read`);
  }
  await chunks.return(undefined);
});

const SCENARIOS: readonly (readonly [name: string, lines: readonly string[], told: string[]])[] = [
  ['a whole export', [HEAD, ONE, END, ''], ['2 session']],
  ['one without its last line break', [HEAD, ONE, END], ['2 session']],
  ['an empty one', [HEAD, formatEnd(0)], []],
  [
    'line breaks of Windows, and empty lines',
    [`${HEAD}\r`, '\r', `${ONE}\r`, '', END],
    ['3 session'],
  ],
  [
    'two of them, one after the other',
    [HEAD, ONE, END, HEAD, ONE, END, ''],
    ['2 session', '5 session'],
  ],
  ['nothing', [''], [`0 broken: nothing arrived; the first line must be ${HEAD}`]],
  ['no head', [ONE, END], [`1 broken: must be the first line of an export: ${HEAD}`]],
  [
    'bad lines',
    [HEAD, '{}x', ONE, 'x'.repeat(3_000), formatEnd(3)],
    ['2 bad: is not a JSON object', '3 session', '4 bad: is longer than 2048 bytes'],
  ],
  [
    'a newer version',
    [HEAD.replace('1}', '9}'), ONE, END],
    ['1 broken: has version 9, but this fly-affinity reads version 1: use a newer one'],
  ],
  [
    'a missing end',
    [HEAD, ONE, ''],
    [
      '2 session',
      '2 broken: the export is truncated: its last line, which counts the sessions, is missing',
    ],
  ],
  [
    'a line cut in two',
    [HEAD, ONE, ONE.slice(0, 20)],
    [
      '2 session',
      '3 bad: is not a JSON object',
      '3 broken: the export is truncated: its last line, which counts the sessions, is missing',
    ],
  ],
  [
    'a lost line',
    [HEAD, ONE, formatEnd(2)],
    ['2 session', '3 broken: counts 2 sessions, but 1 arrived: the export is incomplete'],
  ],
  [
    'a second export before the first has ended',
    [HEAD, ONE, HEAD, ONE, END],
    ['2 session', '3 broken: comes before the last line of the previous export'],
  ],
  [
    'other text after an export',
    [HEAD, ONE, END, ONE, 'x'],
    ['2 session', `4 broken: must be the first line of an export: ${HEAD}`],
  ],
];

for (const [name, lines, expected] of SCENARIOS) {
  test(`reading: ${name}`, () => {
    assert.deepEqual(textsOf(read(lines.join('\n'))), expected);
  });
}
