/** The npm package, which is how the program gets to its users: what is in it, and that it runs where it is installed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { COMMANDS } from '../src/cli/commands.ts';
import { addSidecar, RUN } from '../src/init/dockerfile-edit.ts';
import { parseDockerfile } from '../src/init/dockerfile.ts';
import { readImage } from '../src/init/image.ts';
import { listen } from '../src/http/listener.ts';
import { listPages, readVersion } from '../src/package.ts';
import { lineWithMessage, linesOf } from './cli/program.ts';
import {
  execute,
  filesIn,
  installPackage,
  packProject,
  succeed,
  type NpmPackage,
} from './support/npm-package.ts';

/** With the build, whose types are checked, and the download of what it depends on. */
const INSTALL = { timeout: 600_000 };

/** All that may be in it: another file is a mistake, until it is one of these. */
const ALLOWED: readonly RegExp[] = [
  /^(package\.json|README\.md|LICENSE)$/,
  /^src\/docs\/[a-z-]+\.md$/,
  /^\.config\/start$/,
  /^dist\/[\w.-]+\.js$/,
  /^dist\/(dashboard\.json|alerts\.yaml|status-page\.css)$/,
  /^dist\/(valibot-LICENSE\.md|opentelemetry-LICENSE\.txt)$/,
];

const NEEDED: readonly string[] = [
  ...['package.json', 'README.md', 'LICENSE', '.config/start'],
  ...listPages().map((page) => `src/docs/${page}.md`),
  ...['main', 'writer', 'guardian', 'demo-app', 'status-page.browser'].map((n) => `dist/${n}.js`),
  ...['dashboard.json', 'alerts.yaml', 'status-page.css'].map((name) => `dist/${name}`),
  ...['valibot-LICENSE.md', 'opentelemetry-LICENSE.txt'].map((name) => `dist/${name}`),
];

/** An app whose ids are lost with the Machine that minted them. */
const APP = `import { createServer } from 'node:http';
const known = new Set();
createServer((request, response) => {
  const id = request.headers['x-session-id'] ?? crypto.randomUUID();
  if (request.headers['x-session-id'] === undefined) known.add(id);
  response.writeHead(known.has(id) ? 200 : 404, { 'x-session-id': id }).end();
}).listen(process.env.PORT, '127.0.0.1');
`;

const FLY_TOML = `app = "shop"
primary_region = "fra"

[http_service]
  internal_port = 3000
`;
const DOCKERFILE = 'FROM python:3.13-slim\nCMD ["python", "server.py"]\n';

let directory = '';
let packed: NpmPackage;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fly-affinity-package-'));
  packed = await packProject(directory);
}, INSTALL);
after(() => rm(directory, { recursive: true }));

describe('the package', () => {
  test('has the program, its documentation and its licence, and nothing else', () => {
    const names = [...packed.files.keys()];
    assert.deepEqual(
      names.filter((name) => !isAllowed(name)),
      [],
    );
    assert.deepEqual(
      NEEDED.filter((name) => !packed.files.has(name)),
      [],
    );
    assert.ok(!packed.files.has('dist/stale.js'), 'npm pack builds anew');
  });

  test('has each part of the program that another part loads', async () => {
    const parts = [...packed.files.keys()].filter((name) => /^dist\/.*\.js$/.test(name));
    const loaded = (await Promise.all(parts.map((part) => loadedBy(packed, part)))).flat();
    assert.ok(loaded.length > parts.length, loaded.join());
    assert.deepEqual(
      loaded.filter((name) => !packed.files.has(name)),
      [],
    );
  });

  test('can be started: the program and the script of images are executable', async () => {
    for (const name of ['dist/main.js', '.config/start']) {
      const { mode } = await stat(join(packed.folder, name));
      assert.equal(mode & 0o555, 0o555, name);
    }
  });

  test('a test, a source or a map would be noticed in the package', () => {
    const wrong = [
      'test/fly.test.ts',
      'src/fly.ts',
      'src/README.md',
      'dist/main.js.map',
      'fly.toml',
    ];
    for (const name of wrong) assert.ok(!isAllowed(name), name);
    assert.ok(isAllowed('dist/chunk-6JGMQYKO.js'));
  });
});

describe('the package in an empty folder', () => {
  let folder = '';

  before(async () => {
    folder = await installPackage(directory, packed.tarball);
  }, INSTALL);

  const npx = (args: readonly string[], cwd = folder) =>
    execute('npx', ['fly-affinity', ...args], cwd);

  /** Its output; fails if there is a word on standard error. */
  async function outputOf(args: readonly string[], cwd?: string): Promise<string> {
    const { code, output, errors } = await npx(args, cwd);
    assert.deepEqual([code, errors], [0, ''], `${args.join(' ')}\n${output}`);
    return output;
  }

  test('prints its version, on the Node.js of this test', async (t) => {
    const node = await succeed('npx', ['--call', 'node --version'], folder);
    assert.equal(node.trim(), process.version);
    assert.equal(await outputOf(['--version']), `${readVersion()}\n`);
    await reportSizes(t, packed, folder);
  });

  test('prints the help of each command, and each page', async () => {
    for (const { name, load } of COMMANDS) {
      const { USAGE } = await load();
      assert.equal(await outputOf([name, '--help']), USAGE);
    }
    const overview = await outputOf([]);
    for (const page of listPages()) assert.match(overview, new RegExp(`\\b${page}\\b`));
    assert.match(await outputOf(['help', 'stores']), /^Stores\n=+\n/);
  });

  test('prints the dashboard and the alert rules', async () => {
    JSON.parse(await outputOf(['dashboard']));
    assert.match(await outputOf(['alerts']), /^groups:$/m);
  });

  test('edits an app with init, and finds nothing wrong with it', async () => {
    const app = join(folder, 'app');
    await mkdir(app);
    await writeFile(join(app, 'fly.toml'), FLY_TOML);
    await writeFile(join(app, 'Dockerfile'), DOCKERFILE);
    await outputOf(['init', '--yes'], app);
    assert.notEqual(await readFile(join(app, 'Dockerfile'), 'utf8'), DOCKERFILE);
    assert.match(await outputOf(['doctor'], app), /^0 errors, 0 warnings, /m);
  });

  test('compares an app without and with the sidecar', async () => {
    await writeFile(join(folder, 'app.mjs'), APP);
    const request = ['--request', 'POST /rpc', '--sessions', '3', '--calls', '4'];
    const output = await outputOf(['try', ...request, '--json', '--', 'node', 'app.mjs']);
    const result = JSON.parse(output) as Record<'without' | 'with', { readonly lost: number }>;
    assert.ok(result.without.lost > 0);
    assert.equal(result.with.lost, 0);
  });

  test('checks a deployment', async (t) => {
    const app = createServer((_, response) => response.end());
    const port = await listen(app, { host: '127.0.0.1', port: 0 });
    t.after(() => app.close());
    const { code, output, errors } = await npx(['check', `http://127.0.0.1:${port}`]);
    assert.deepEqual([code, errors], [1, '']);
    assert.match(output, /^No session was opened:$/m);
  });

  test('serves with a store in a file, and stops in order', async (t) => {
    const program = join(folder, 'node_modules/.bin/fly-affinity');
    const child = spawn(program, ['serve'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
        ...{ HOST: '127.0.0.1', PORT: '0', PEER_PORT: '0', ADMIN_PORT: '0', FLEET: 'off' },
        SESSION_STORE_PATH: join(folder, 'sessions.sqlite'),
      },
    });
    t.after(() => child.kill('SIGKILL'));
    const { store } = await lineWithMessage(linesOf(child), 'serving');
    const { kind, state } = store as { kind: string; state: string };
    assert.deepEqual([kind, state], ['sqlite', 'healthy']);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });
});

for (const [base, hasNode] of [
  ['python:3.13-slim', false],
  ['node:24-slim', true],
] as const) {
  const name = `the package runs in an image of ${base}, ${hasNode ? 'on its' : 'with a'} Node.js`;
  test(name, INSTALL, async () => {
    const image = await mkdtemp(join(directory, 'image-'));
    const folder = await runStageOfInit(image, base);
    assert.equal((await filesIn(folder)).has('bin/node'), !hasNode);
    const PATH = hasNode ? `${dirname(process.execPath)}:/usr/bin:/bin` : '/usr/bin:/bin';
    // The start script of root takes the user of a store that is there.
    const SESSION_STORE_PATH = join(image, 'data/session-store.sqlite');
    const start = (...args: readonly string[]) =>
      succeed(join(folder, 'start'), args, image, { PATH, SESSION_STORE_PATH });
    assert.equal(await start('--version'), `${readVersion()}\n`);
    assert.match(await start('doctor'), /^0 errors, 0 warnings, /m);
  });
}

/** Runs the steps of the stage that `init` writes, in another root; the folder that they make. */
async function runStageOfInit(root: string, base: string): Promise<string> {
  const dockerfile = parseDockerfile(`FROM ${base}\nCMD ["server"]\n`);
  const [stage] = dockerfile.stages;
  assert.ok(stage);
  const image = readImage(dockerfile, stage);
  const options = { runAs: undefined, prefix: RUN, isEntrypoint: true, version: '1.2.3' };
  const { stages } = parseDockerfile(addSidecar(dockerfile, { stage, image, ...options }));
  const added = stages.find(({ name }) => name === 'fly-affinity');
  const [install, ...others] = added?.instructions ?? [];
  assert.ok(install?.name === 'RUN' && others.length === 0);
  const step = install.rest
    .replaceAll(/\/(usr\/local(?=\/lib)|opt(?=\/))/g, `${root}/$1`)
    .replaceAll('/usr/local/bin/node', process.execPath)
    .replace('fly-affinity@1.2.3', packed.tarball);
  await mkdir(join(root, 'opt'));
  await succeed('sh', ['-c', step], root, { npm_config_prefix: join(root, 'usr/local') });
  return join(root, 'opt/fly-affinity');
}

function isAllowed(name: string): boolean {
  return ALLOWED.some((pattern) => pattern.test(name));
}

/** Files of `dist` that are named in imports, or in URLs relative to the file. */
async function loadedBy({ folder }: NpmPackage, part: string): Promise<readonly string[]> {
  const source = await readFile(join(folder, part), 'utf8');
  const named = source.matchAll(/["'`](\.\/[\w-]+(?:\.[\w-]+)*\.(?:js|json|yaml|css))["'`]/g);
  return [...named].map(([, name = '']) => normalize(join(dirname(part), name)));
}

/** For people: nothing else in CI shows how large the package has become. */
async function reportSizes(t: TestContext, { tarball, files }: NpmPackage, folder: string) {
  const { size } = await stat(tarball);
  t.diagnostic(`tarball: ${inKilobytes(size)}, of which`);
  for (const line of largest(files, /^(dist|src\/docs)/)) t.diagnostic(line);
  const installed = await filesIn(join(folder, 'node_modules'));
  t.diagnostic(`installed: ${inKilobytes(sum(installed))}, of which`);
  for (const line of largest(installed, /^(@[^/]+\/)?[^/]+/)) t.diagnostic(line);
}

/** `folder`: the beginning of a path, by which files are added up. */
function largest(files: ReadonlyMap<string, number>, folder: RegExp): readonly string[] {
  const groups = Map.groupBy(files, ([path]) => folder.exec(path)?.[0] ?? path);
  return [...groups]
    .map(([name, group]) => ({ name, count: group.length, bytes: sum(new Map(group)) }))
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, 10)
    .map(
      ({ name, count, bytes }) => `${inKilobytes(bytes).padStart(11)}  ${name} (${count} files)`,
    );
}

function sum(sizes: ReadonlyMap<string, number>): number {
  return [...sizes.values()].reduce((total, size) => total + size, 0);
}

function inKilobytes(bytes: number): string {
  return `${Math.round(bytes / 1000).toLocaleString('en')} kB`;
}
