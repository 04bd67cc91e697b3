/** `fly-affinity init` on files that are hard to read or to write: it edits them well, or not at all. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { writeEdits } from '../../../src/cli/init/edits.ts';
import { createFolder } from './support.ts';

const CONFIG = 'app = "a"\n[http_service]\n  internal_port = 8000\n';
const DOCKERFILE = 'FROM python:3.13-slim\nUSER app\nCMD ["python", "server.py"]\n';
const FILES = { 'fly.toml': CONFIG, Dockerfile: DOCKERFILE };

describe('the first lines of a Dockerfile', () => {
  test('a byte order mark does not get into the middle of the file', async (t) => {
    const marked = { 'fly.toml': `\uFEFF${CONFIG}`, Dockerfile: `\uFEFF${DOCKERFILE}` };
    const folder = await createFolder(t, marked);
    assert.equal((await folder.init()).code, 0);
    for (const name of Object.keys(marked))
      assert.doesNotMatch(await folder.read(name), /.\uFEFF/s);
    assert.match(await folder.read('Dockerfile'), /\nFROM python:3\.13-slim\n/);
  });

  test('directives stay in front, and their escape continues the lines of init', async (t) => {
    const directives = '# syntax=docker/dockerfile:1\n# escape=`\n';
    const folder = await createFolder(t, { ...FILES, Dockerfile: directives + DOCKERFILE });
    assert.equal((await folder.init()).code, 0);
    const edited = await folder.read('Dockerfile');
    assert.ok(edited.startsWith(directives));
    assert.match(edited, /\nRUN npm install [^\n]* `\n {2}&& mv /);
    assert.doesNotMatch(edited, /\\\n/);
  });
});

describe('files that init leaves alone', () => {
  for (const [name, bytes, reason] of [
    ['in another encoding', Buffer.from(`# caf\xe9\n${DOCKERFILE}`, 'latin1'), 'not in UTF-8'],
    ['in UTF-16', Buffer.from(`\uFEFF${DOCKERFILE}`, 'utf16le'), 'not in UTF-8'],
    ['far too large', Buffer.from(`${DOCKERFILE}${'# \n'.repeat(90_000)}`), 'larger than 256 KiB'],
  ] as const) {
    test(`a Dockerfile ${name}`, async (t) => {
      const folder = await createFolder(t, FILES);
      const path = join(folder.path, 'Dockerfile');
      await writeFile(path, bytes);
      const { code, errors } = await folder.init();
      assert.equal(code, 1);
      assert.ok(errors.includes(`Could not read Dockerfile (${reason}). Nothing was written.`));
      assert.deepEqual(await readFile(path), bytes);
    });
  }

  test('one that was changed while the person thought about it', async (t) => {
    const folder = await createFolder(t, FILES);
    const edits = Object.entries(FILES).map(([name, before]) => ({
      ...{ path: join(folder.path, name), before, after: 'x' },
    }));
    await folder.write('Dockerfile', 'FROM other\n');
    assert.match(
      (await writeEdits(edits)) ?? '',
      /Dockerfile has changed since it was read\. Nothing was written: run this again\.$/,
    );
    assert.equal(await folder.read('fly.toml'), CONFIG);
    assert.equal(await folder.read('Dockerfile'), 'FROM other\n');
  });
});

describe('writing', () => {
  test('follows a link', async (t) => {
    const folder = await createFolder(t, { 'real.toml': CONFIG, Dockerfile: DOCKERFILE });
    await symlink('real.toml', join(folder.path, 'fly.toml'));
    assert.equal((await folder.init(['--yes', '--config', join(folder.path, 'fly.toml')])).code, 0);
    assert.match(await folder.read('real.toml'), /FLY_AFFINITY_PORT/);
  });

  // A limit of the size of files ends a write in the middle, as a full disk does.
  test('gives both files back what they had when the second takes only a part', async (t) => {
    const long = `${DOCKERFILE}# ${'x'.repeat(700)}\n`;
    const folder = await createFolder(t, { Dockerfile: long });
    const path = join(folder.path, 'Dockerfile');
    const other = join(folder.path, 'fly.toml');
    await writeFile(other, CONFIG);
    const edits = [
      { path: other, before: CONFIG, after: 'x' },
      { path, before: long, after: long.repeat(9) },
    ];
    const code = `import { writeEdits } from ${JSON.stringify(resolve('src/cli/init/edits.ts'))};
      console.log(await writeEdits(${JSON.stringify(edits)}));`;
    const limited = 'trap "" XFSZ; ulimit -f 2; exec "$0" --import tsx --input-type=module -e "$1"';
    const env = { ...process.env, TSX_DISABLE_CACHE: '1' };
    const args = ['-c', limited, process.execPath, code];
    const { stdout, stderr } = spawnSync('sh', args, { env, encoding: 'utf8' });
    assert.match(stdout, /Could not write .*Dockerfile \(EFBIG\)\. Nothing was changed\./, stderr);
    assert.equal(await folder.read('Dockerfile'), long);
    assert.equal(await folder.read('fly.toml'), CONFIG);
  });
});
