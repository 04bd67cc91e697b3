/** `fly-affinity help`: the overview and the pages. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import type { CommandContext } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { execute, textOf } from '../../src/cli/help.ts';
import type { Setting } from '../../src/config/setting.ts';
import { SETTING_NAMES, SETTINGS } from '../../src/config/settings.ts';

const DOCS = new URL('../../src/docs/', import.meta.url);
const PAGES = readdirSync(DOCS)
  .map((file) => file.replace(/\.md$/, ''))
  .sort();

async function helpOn(...topic: string[]): Promise<string> {
  let text = '';
  const stdout = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  const context = { stdout, commands: COMMANDS } as unknown as CommandContext;
  assert.equal(await execute(topic, context), 0);
  return text;
}

test('help without a topic names every command and every page', async () => {
  const text = await helpOn();
  for (const { name, summary } of COMMANDS)
    assert.ok(text.includes(`  ${name.padEnd(12)}${summary}\n`));
  assert.ok(text.replaceAll(/,\n */g, ', ').includes(`\n  ${PAGES.join(', ')}\n`));
  for (const line of text.split('\n')) assert.ok(line.length <= 100, line);
});

for (const page of PAGES) {
  test(`help ${page} prints the page as plain text`, async () => {
    const source = readFileSync(new URL(`${page}.md`, DOCS), 'utf8');
    const text = await helpOn(page);
    assert.doesNotMatch(text, /<!--|^#|`|\*\*|\]\(|^\||-\|-/m);
    const prose = source.replace(/^```[^]*?^```$/gm, '');
    for (const [, mark, title = ''] of prose.matchAll(/^(##?) (.*)$/gm)) {
      const line = (mark === '#' ? '=' : '-').repeat(title.length);
      assert.ok(`\n${text}`.includes(`\n${title}\n${line}\n`), title);
    }
  });
}

test('a page in plain text keeps code, the addresses of links, and the columns of tables', () => {
  const page = `# Title

See [the log](operations.md#logs), **then** [the site](https://a.example).

\`\`\`json
{ "a": "|" }
\`\`\`

| name | meaning |
| --- | --- |
| \`A\` | one |
| \`LONGER\` | two |
`;
  assert.equal(
    textOf(page),
    `Title
=====

See the log, then the site (https://a.example).

    { "a": "|" }

name    meaning
A       one
LONGER  two
`,
  );
});

test('help settings lists every setting with its default', async () => {
  const text = await helpOn('settings');
  for (const name of SETTING_NAMES) assert.ok(text.includes(`  ${name} (`), name);
});

/** Markdown, as in the page between its markers. */
function settingsTable(): string {
  const rows = SETTING_NAMES.map((name) => {
    const { fallback, shownFallback, summary, isSetByFly }: Setting<unknown> = SETTINGS[name];
    const shown = fallback === undefined ? shownFallback : `\`${fallback}\``;
    return `| \`${name}\` | ${shown} | ${summary}${isSetByFly ? ' Set by Fly.io.' : ''} |`;
  });
  return ['| variable | default | meaning |', '| --- | --- | --- |', ...rows].join('\n');
}

test('the table in settings.md is the one of the source', () => {
  const page = readFileSync(new URL('settings.md', DOCS), 'utf8');
  const [, table] = /<!-- settings:begin -->\n([^]*?)\n<!-- settings:end -->/.exec(page) ?? [];
  const expected = `\n${settingsTable()}\n`;
  assert.ok(table === expected, `between its markers, settings.md must have:\n${expected}`);
});
