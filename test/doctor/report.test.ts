/** The report as people read it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { error, note, ok, warning } from '../../src/doctor/report.ts';
import { formatAll, formatText } from '../../src/doctor/report-format.ts';

const LINES = '[a]\n  b = 1';
const SECTIONS = [
  { title: 'Settings', findings: [ok('Valid.'), note('N.', 'Why n.')] },
  { title: 'fly.toml', findings: [warning('W.', 'Why w.', LINES), warning('W.', 'Why w.', LINES)] },
  { title: 'App', findings: [error('E.', 'Why e.', 'do x'), warning('V.', 'Why v.', LINES)] },
];

test('errors come first, then warnings, then a line for each note; each finding and each advice once', () => {
  assert.equal(
    formatText(SECTIONS),
    `  error    E.
           Why e.
           Try: do x

  warning  W.
           Why w.
           Try:
             [a]
               b = 1

  warning  V.
           Why v.
           Try: the same.

  note     N.

1 error, 2 warnings, 1 note. More with --all.
`,
  );
});

test('the whole report has the findings of each subject together', () => {
  assert.match(
    formatAll(SECTIONS),
    /^Settings\n {2}ok {7}Valid\.\n {2}note {5}N\.\n {11}Why n\.\n\nfly\.toml\n/,
  );
});
