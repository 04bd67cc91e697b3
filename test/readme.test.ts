/** The promises of the documentation are tested: each promise is the name of a test that runs. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { test } from 'node:test';

const ROOT = new URL('../', import.meta.url);

async function promises(): Promise<string[]> {
  const page = await readFile(new URL('src/docs/sessions.md', ROOT), 'utf8');
  const [, section] = /<!-- promises:begin -->\n([^]*?)\n<!-- promises:end -->/.exec(page) ?? [];
  assert.ok(section, 'sessions.md has a section of promises');
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

test('each promise of the documentation is one sentence, and the name of a test', async () => {
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

const PAGES = ['README.md', 'src/README.md', '.github/CONTRIBUTING.md'];

async function pages(): Promise<string[]> {
  const source = await readdir(new URL('src/', ROOT), { recursive: true });
  const inSource = source.filter((file) => file.endsWith('.md')).map((file) => `src/${file}`);
  return [...new Set([...PAGES, ...inSource])];
}

test('each link of the documentation leads to a file', async () => {
  const missing: string[] = [];
  for (const page of await pages()) {
    const text = await readFile(new URL(page, ROOT), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const isThere = existsSync(new URL(target, new URL(page, ROOT)));
      if (!isThere) missing.push(`${page} -> ${target}`);
    }
  }
  assert.deepEqual(missing, []);
});

/** With or without its folder; `NAME.test.ts` stands for any. */
const NAMED_FILE = /`(?:\.\.\/)*((?!NAME)\w[\w./-]*\.ts)`/g;

test('each file that a README or a comment of src or test names is there', async () => {
  const folders = await Promise.all(
    ['src', 'test'].map(async (folder) => {
      const files = await readdir(new URL(`${folder}/`, ROOT), { recursive: true });
      return files.map((file) => `/${folder}/${file}`);
    }),
  );
  const paths = folders.flat();
  const missing: string[] = [];
  const code = paths.filter((path) => path.endsWith('.ts')).map((path) => path.slice(1));
  for (const page of [...(await pages()), 'test/README.md', ...code]) {
    const text = await readFile(new URL(page, ROOT), 'utf8');
    for (const [, name = ''] of text.matchAll(NAMED_FILE)) {
      if (!paths.some((path) => path.endsWith(`/${name}`))) missing.push(`${page}: ${name}`);
    }
  }
  assert.deepEqual(missing, []);
});

test('the documentation runs the built program on the Node.js of npm ci, not on that of the shell', async () => {
  let count = 0;
  for (const page of await pages()) {
    const text = await readFile(new URL(page, ROOT), 'utf8');
    for (const [, before = ''] of text.matchAll(/^(.*)node dist\/main\.js/gm)) {
      assert.match(before, /\bnpx $/, page);
      count += 1;
    }
  }
  assert.ok(count > 0);
});

test('the README has at most 10 KB', async () => {
  const { size } = await stat(new URL('README.md', ROOT));
  assert.ok(size <= 10_000, `it has ${size} bytes: move details to src/docs`);
});

/** A table in the code that lists files of its folder, as the README says. */
const TABLES: ReadonlyMap<string, string> = new Map([['src/cli', 'src/cli/commands.ts']]);

test('the README of a folder of src names each file in it', async () => {
  const missing: string[] = [];
  for (const page of (await pages()).filter((name) => /^src\/.*README\.md$/.test(name))) {
    const folder = page.slice(0, -'/README.md'.length);
    const lists = [page, TABLES.get(folder) ?? []].flat();
    const texts = await Promise.all(lists.map((list) => readFile(new URL(list, ROOT), 'utf8')));
    const named = new Set(texts.join('\n').match(/[\w.-]+/g));
    for (const file of await readdir(new URL(`${folder}/`, ROOT))) {
      const isToBeNamed = /\.(?:ts|js|css|json|yaml)$/.test(file);
      if (isToBeNamed && !named.has(file)) missing.push(`${page}: ${file}`);
    }
  }
  assert.deepEqual(missing, []);
});
