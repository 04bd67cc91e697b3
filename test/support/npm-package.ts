/** The npm package: packed as for a release, and installed as by a user. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface NpmPackage {
  readonly tarball: string;
  /** Where it is unpacked. */
  readonly folder: string;
  /** Their paths in it, with their sizes in bytes. */
  readonly files: ReadonlyMap<string, number>;
}

/** `npm pack` in a copy of the project, in which an earlier build has left files. */
export async function packProject(directory: string): Promise<NpmPackage> {
  const project = join(directory, 'project');
  await cp(ROOT, project, { recursive: true, filter: (path) => !isLeftOut(relative(ROOT, path)) });
  await symlink(join(ROOT, 'node_modules'), join(project, 'node_modules'));
  await mkdir(join(project, 'dist'));
  await writeFile(join(project, 'dist/stale.js'), '');
  await succeed('npm', ['pack', '--pack-destination', directory], project);
  const [name, ...others] = (await readdir(directory)).filter((file) => file.endsWith('.tgz'));
  assert.ok(name !== undefined && others.length === 0);
  await succeed('tar', ['-xzf', name], directory);
  const folder = join(directory, 'package');
  return { tarball: join(directory, name), folder, files: await filesIn(folder) };
}

function isLeftOut(path: string): boolean {
  return /^(node_modules|dist|\.git)$|\.sqlite/.test(path);
}

/** In an empty folder, which is the result. */
export async function installPackage(directory: string, tarball: string): Promise<string> {
  const folder = join(directory, 'empty');
  await mkdir(folder);
  await succeed('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball], folder);
  return folder;
}

export async function filesIn(folder: string): Promise<ReadonlyMap<string, number>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    files.map(async ({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [relative(folder, path), (await stat(path)).size] as const;
    }),
  );
  return new Map(sizes.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export interface Ended {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs a program with the Node.js of this process in front, and as if no npm script ran it. */
export async function execute(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const options = { cwd, env: { ...withoutNpmScript(), ...env }, maxBuffer: 64 * 1024 * 1024 };
    execFile(program, args, options, (error, output, errors) => {
      const code = error ? error.code : 0;
      if (typeof code === 'number') resolve({ code, output, errors });
      else reject(error ?? new Error(`${program} has no exit code`));
    });
  });
}

export async function succeed(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { code, output, errors } = await execute(program, args, cwd, env);
  assert.equal(code, 0, `${program} ${args.join(' ')}\n${output}${errors}`);
  return output;
}

/** What npm sets for a script leads the next npm to the folder of that script. */
const OF_A_SCRIPT = /^(INIT_CWD|npm_(?!config_).*|npm_config_(local_|global_)?prefix)$/;

function withoutNpmScript(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !OF_A_SCRIPT.test(name));
  const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);
  return { ...Object.fromEntries(own), PATH, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined };
}
