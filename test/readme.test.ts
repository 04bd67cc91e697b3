/** What the README promises is tested: each of its promises is the name of a test that runs. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';

const ROOT = new URL('../', import.meta.url);

async function promises(): Promise<string[]> {
  const readme = await readFile(new URL('README.md', ROOT), 'utf8');
  const [, section] = /<!-- promises:begin -->\n([^]*?)\n<!-- promises:end -->/.exec(readme) ?? [];
  assert.ok(section, 'README.md has a section of promises');
  const [before, ...items] = `\n${section}`.split(/\n- /);
  assert.equal(before?.trim(), '', 'it is a list and nothing else');
  return items.map((item) => item.trim().replaceAll(/\s+/g, ' '));
}

/** Names given as literals at the beginning of a line; `test.skip` and `test.todo` do not count. */
const NAMED =
  /^\s*(?:await |void )?(?:t\.)?(?:test|it)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1,([^]*?)=>/gm;

function namesOfTests(source: string): string[] {
  return [...source.matchAll(NAMED)].flatMap(([, , name = '', options = '']) =>
    /\b(skip|todo)\b/.test(options) ? [] : [name.replaceAll(/\\(.)/g, '$1')],
  );
}

async function namesInTree(): Promise<Set<string>> {
  const files = await readdir(new URL('test/', ROOT), { recursive: true });
  const names = new Set<string>();
  for (const file of files) {
    if (!file.endsWith('.test.ts') || file === 'readme.test.ts') continue;
    const source = await readFile(new URL(`test/${file}`, ROOT), 'utf8');
    for (const name of namesOfTests(source)) names.add(name);
  }
  return names;
}

test('each promise of the README is one sentence, and the name of a test', async () => {
  const names = await namesInTree();
  const promised = await promises();
  assert.ok(promised.length > 0);
  for (const sentence of promised) assert.match(sentence, /^[A-Z][^.]*\.$/);
  assert.deepEqual(
    promised.filter((sentence) => !names.has(sentence)),
    [],
    'promises without a test of that name',
  );
  assert.equal(new Set(promised).size, promised.length, 'no promise is made twice');
});

test('a name counts only where its test runs', () => {
  const source = [
    "test('one', async (t) => {",
    '  await t.test("two\'s", LONG, () => 1);',
    "it(\n  'three',\n  { timeout: 1 },\n  () => 1);",
    "test.skip('four', () => 1);",
    "// test('five', () => 1);",
    "test('six', { skip: true }, () => 1);",
    "const seven = 'seven';",
  ].join('\n');
  assert.deepEqual(namesOfTests(source), ['one', "two's", 'three']);
});
