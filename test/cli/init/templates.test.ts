/** `init` on files such as public apps have: see templates/. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseFlyToml } from '../../../src/doctor/fly-toml.ts';
import { groupsServedBy } from '../../../src/doctor/process-groups.ts';
import { parseDockerfile, targetOf } from '../../../src/init/dockerfile.ts';
import { readImage } from '../../../src/init/image.ts';
import { runDoctor } from '../doctor/support.ts';
import { createFolder, readTemplates, withoutDiff, type Folder } from './support.ts';

const TEMPLATES = await readTemplates();
const WRITTEN = TEMPLATES.filter(({ expected }) => Object.keys(expected).length > 0);

for (const { name, files, expected, said } of TEMPLATES) {
  test(`${name}: writes what is expected, and says so`, async (t) => {
    const folder = await createFolder(t, files);
    const { code, output, errors } = await folder.init();
    assert.equal(withoutDiff(output) + errors, said);
    assert.equal(code, Object.keys(expected).length > 0 ? 0 : 1);
    for (const [file, text] of Object.entries({ ...files, ...expected })) {
      assert.equal(await folder.read(file), text, file);
    }
  });
}

for (const { name, files } of WRITTEN) {
  describe(name, () => {
    test('a second init changes nothing', async (t) => {
      const folder = await createFolder(t, files);
      await folder.init();
      const { code, output } = await folder.init();
      assert.deepEqual([code, output.split('\n').at(-2)], [0, 'Nothing to change.']);
    });

    test('init --remove brings back every byte', async (t) => {
      const folder = await createFolder(t, files);
      await folder.init();
      assert.equal((await folder.init(['--remove', '--yes'])).code, 0);
      for (const [file, text] of Object.entries(files)) {
        assert.equal(await folder.read(file), text, file);
      }
    });

    test('the doctor has neither error nor warning, and nothing to fix', async (t) => {
      const folder = await createFolder(t, files);
      await folder.init();
      const [config = ''] = Object.keys(files);
      const { code, output } = await runDoctor(['--config', `${folder.path}/${config}`], {});
      assert.equal(code, 0, output);
      assert.match(output, /\b0 errors, 0 warnings, /);
    });

    test('the sidecar starts what the image or the process group started before', async (t) => {
      const folder = await createFolder(t, files);
      const before = await startedIn(folder);
      await folder.init();
      const after = (await startedIn(folder)).map(withoutSidecar);
      assert.deepEqual(after, before);
    });

    test('of the image, only the folder is copied from a stage that comes before', async (t) => {
      const folder = await createFolder(t, files);
      const stages = parseDockerfile(files.Dockerfile ?? '').stages.length;
      await folder.init();
      const edited = parseDockerfile(await folder.read('Dockerfile')).stages;
      assert.equal(edited.length, stages + 1);
      assert.equal(edited.at(-2)?.name, 'fly-affinity');
      const copies = edited
        .at(-1)
        ?.instructions.filter(({ rest }) => rest.includes('fly-affinity /'));
      assert.deepEqual(
        copies?.map(({ name: each }) => each),
        ['COPY'],
      );
    });
  });
}

/** What Fly.io starts in each process group that has Machines of the service. */
async function startedIn(folder: Folder): Promise<string[]> {
  const parsed = parseFlyToml(await folder.read('fly.toml'));
  const dockerfile = parseDockerfile(await folder.read('Dockerfile'));
  const stage = targetOf(dockerfile);
  assert.ok(parsed.kind === 'parsed' && stage);
  const { entrypoint, cmd } = readImage(dockerfile, stage);
  const { toml } = parsed;
  return groupsServedBy(toml, toml.services).map((group) => {
    const command = toml.commands[group];
    const words = [...(entrypoint?.words ?? []), ...(command ? [command] : (cmd?.words ?? []))];
    return words.join(' ');
  });
}

/** The entrypoint of the image may come first. */
function withoutSidecar(command: string): string {
  assert.match(command, /\/opt\/fly-affinity\/start run -- /);
  return command.replace(/\/opt\/fly-affinity\/start run -- (env PORT=\d+ )?/, '');
}
