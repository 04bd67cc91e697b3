/** The sidecar as it is shipped: bundled, in its own directory, from the current sources. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Scope } from './scope.ts';

/** A directory that is removed after the bench. */
export interface Workspace {
  readonly directory: string;
  /** `main.js` of the bundled sidecar. */
  readonly sidecarScript: string;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export async function createWorkspace({ after }: Pick<Scope, 'after'>): Promise<Workspace> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-bench-'));
  after(() => rm(directory, { recursive: true, force: true }));
  const packageDirectory = join(directory, 'package');
  await mkdir(packageDirectory);
  for (const name of ['package.json', 'src/docs']) {
    await cp(join(ROOT, name), join(packageDirectory, name), { recursive: true });
  }
  await symlink(join(ROOT, 'node_modules'), join(packageDirectory, 'node_modules'));
  const outDir = join(packageDirectory, 'dist');
  // Type checking is the task of another command.
  const args = [join(ROOT, '.config/bundle.js'), outDir];
  const compiling = promisify(execFile)(process.execPath, args);
  after(async () => {
    compiling.child.kill();
    // Its output files would be left behind.
    await compiling.catch(() => undefined);
  });
  await compiling;
  return { directory, sidecarScript: join(outDir, 'main.js') };
}
