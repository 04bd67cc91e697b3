/** Looks at the directory of the session store. What it writes there it takes away again. */
import { stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { VolumeFacts } from '../volume.ts';
import { errorCodeOf } from './within.ts';

/** `path`: of the store's file. Never rejects. */
export async function probeVolume(path: string, random: () => number): Promise<VolumeFacts> {
  const directory = dirname(resolve(path));
  try {
    const [found, root, room] = await Promise.all([stat(directory), stat('/'), statfs(directory)]);
    if (!found.isDirectory()) return { kind: 'unusable', directory, reason: 'ENOTDIR' };
    return {
      kind: 'found',
      directory,
      isOnRootDisk: found.dev === root.dev,
      freeBytes: room.bavail * room.bsize,
      writeError: await tryToWrite(directory, random),
    };
  } catch (error) {
    const reason = errorCodeOf(error);
    if (reason === 'ENOENT') return { kind: 'missing', directory };
    return { kind: 'unusable', directory, reason };
  }
}

/** Permissions alone do not tell: a disk may be full, or have turned read-only. */
async function tryToWrite(directory: string, random: () => number): Promise<string | undefined> {
  const name = `.fly-affinity-doctor-${random().toString(36).slice(2)}`;
  const probe = join(directory, name);
  try {
    // Fails if there is such a file: it would not be ours to delete.
    await writeFile(probe, 'fly-affinity doctor\n', { flag: 'wx' });
  } catch (error) {
    const code = errorCodeOf(error);
    // A disk that is full takes the name, and not the text.
    if (code !== 'EEXIST') await unlink(probe).catch(() => undefined);
    return code;
  }
  return unlink(probe).then(
    () => undefined,
    (error: unknown) => errorCodeOf(error),
  );
}
