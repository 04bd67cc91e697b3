/** What is printed about a release, and what keeps a release from being published. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../.config/release-notes.js', import.meta.url));

const CHANGELOG = `# Changelog

Versions follow rules.

## Unreleased

## 0.2.0

- \`try\` compares. See [try](try.md#keep) and
  [npm](https://npmjs.com).

## 0.1.0

- The first version.
`;

interface Files {
  readonly version?: string;
  readonly locked?: string;
  readonly changelog?: string;
}

function runIn(t: TestContext, args: readonly string[], files: Files = {}) {
  const { version = '0.2.0', locked = version, changelog = CHANGELOG } = files;
  const folder = mkdtempSync(join(tmpdir(), 'fly-affinity-release-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'src/docs'), { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ version }));
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ version: locked }));
  writeFileSync(join(folder, 'src/docs/changelog.md'), changelog);
  const options = { cwd: folder, encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], options);
  return { status, stdout, stderr };
}

test('the notes of a release are its section of the changelog, with whole links', (t) => {
  assert.deepEqual(runIn(t, ['v0.2.0', 'https://example.com/docs']), {
    status: 0,
    stdout: `- \`try\` compares. See [try](https://example.com/docs/try.md#keep) and
  [npm](https://npmjs.com).
`,
    stderr: '',
  });
});

const CHANGELOG_FILE = 'src/docs/changelog.md';

for (const [what, tag, files, ...sentences] of [
  [
    'a tag of another version',
    'v0.3.0',
    {},
    'the tag is "v0.3.0", but package.json has 0.2.0: v0.2.0 is expected',
  ],
  [
    'a tag without a v',
    '0.2.0',
    {},
    'the tag is "0.2.0", but package.json has 0.2.0: v0.2.0 is expected',
  ],
  [
    'a lock file of another version',
    'v0.2.0',
    { locked: '0.1.0' },
    'package-lock.json has 0.1.0, but package.json has 0.2.0: run npm install',
  ],
  [
    'a version that the changelog does not have',
    'v0.3.0',
    { version: '0.3.0' },
    `${CHANGELOG_FILE} has no lines under "## 0.3.0"`,
  ],
  [
    'an old version',
    'v0.1.0',
    { version: '0.1.0' },
    `${CHANGELOG_FILE} has "## 0.2.0" above "## 0.1.0"`,
  ],
  [
    'changes that are not in the section of the version',
    'v0.2.0',
    { changelog: CHANGELOG.replace('## Unreleased\n', '## Unreleased\n\n- More.\n') },
    `${CHANGELOG_FILE} has lines under "## Unreleased": move them under "## 0.2.0"`,
  ],
  [
    'several mistakes, which are all named,',
    '',
    { locked: '0.1.0', changelog: '# Changelog\n\n## 0.2.0\n\n## 0.1.0\n\n- One.\n' },
    'the tag is "", but package.json has 0.2.0: v0.2.0 is expected',
    'package-lock.json has 0.1.0, but package.json has 0.2.0: run npm install',
    `${CHANGELOG_FILE} has no lines under "## 0.2.0"`,
  ],
] as const) {
  test(`${what} can't be released`, (t) => {
    assert.deepEqual(runIn(t, [tag], files), {
      status: 1,
      stdout: '',
      stderr: sentences.map((sentence) => `release: ${sentence}\n`).join(''),
    });
  });
}
