/** Checks the directory of the session store: whether it persists, and whether it is writable. */
import { stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errorCodeOf } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';

export type VolumeFacts =
  | { readonly kind: 'missing'; readonly directory: string }
  | { readonly kind: 'unusable'; readonly directory: string; readonly reason: string }
  | {
      readonly kind: 'found';
      readonly directory: string;
      readonly isOnRootDisk: boolean;
      readonly freeBytes: number;
      /** Why the directory is not writable; undefined if it is. */
      readonly writeError: string | undefined;
    };

/** A million sessions take 70 MB, and as much again during a checkpoint of the write-ahead log. */
const LOW_FREE_BYTES = 200_000_000;
const BYTES_PER_MB = 1_000_000;

/** `isNeeded`: the store itself is there, not only the pending changes for a database. */
export function checkVolume(facts: VolumeFacts, isNeeded: boolean): Finding[] {
  const { directory } = facts;
  const severity = isNeeded ? error : warning;
  const why = isNeeded
    ? 'The sidecar keeps its session records in memory, and a restart loses them.'
    : 'Changes that wait for the database would be saved there; without it a restart loses them.';
  if (facts.kind === 'missing') {
    return [
      warning(
        `${directory} does not exist.`,
        'The sidecar creates it on the root disk, which every deploy recreates.',
        '[mounts] in fly.toml, with a destination that contains SESSION_STORE_PATH',
      ),
    ];
  }
  if (facts.kind === 'unusable') {
    return [severity(`The sidecar can not use ${directory} (${facts.reason}).`, why)];
  }
  const { isOnRootDisk, freeBytes, writeError } = facts;
  if (writeError !== undefined) {
    return [
      severity(
        `${directory} is not writable (${writeError}).`,
        `${why} A new volume belongs to root.`,
        `start the sidecar with /opt/fly-affinity/start, or run chown 1000:1000 ${directory}`,
      ),
    ];
  }
  const findings = [ok(`${directory} is writable.`), ...checkFreeSpace(directory, freeBytes)];
  if (!isOnRootDisk) return findings;
  const remark = isNeeded ? warning : note;
  return [
    ...findings,
    remark(
      `${directory} is on the root disk.`,
      'Every deploy recreates the root disk, and the file is lost.',
      '[mounts] in fly.toml, with a destination that contains SESSION_STORE_PATH',
    ),
  ];
}

function checkFreeSpace(directory: string, freeBytes: number): Finding[] {
  const freeMb = Math.floor(freeBytes / BYTES_PER_MB);
  if (freeBytes >= LOW_FREE_BYTES) return [ok(`${directory} has ${freeMb} MB free.`)];
  return [
    warning(
      `${directory} has only ${freeMb} MB free.`,
      'On a full disk the sidecar keeps changes in memory, and a restart loses them.',
      'free some space, or run fly volumes extend',
    ),
  ];
}

/** `path`: the file of the store. Never rejects. */
export async function probeVolume(path: string, random: () => number): Promise<VolumeFacts> {
  const directory = dirname(resolve(path));
  try {
    const [found, root, disk] = await Promise.all([stat(directory), stat('/'), statfs(directory)]);
    if (!found.isDirectory()) return { kind: 'unusable', directory, reason: 'ENOTDIR' };
    return {
      kind: 'found',
      directory,
      isOnRootDisk: found.dev === root.dev,
      freeBytes: disk.bavail * disk.bsize,
      writeError: await tryToWrite(directory, random),
    };
  } catch (error) {
    const reason = errorCodeOf(error);
    if (reason === 'ENOENT') return { kind: 'missing', directory };
    return { kind: 'unusable', directory, reason };
  }
}

/** Permissions are not enough to know: the disk may be full or mounted read-only. */
async function tryToWrite(directory: string, random: () => number): Promise<string | undefined> {
  const name = `.fly-affinity-doctor-${random().toString(36).slice(2)}`;
  const probe = join(directory, name);
  try {
    // Fails if the file exists: it is not ours to overwrite and delete.
    await writeFile(probe, 'fly-affinity doctor\n', { flag: 'wx' });
  } catch (error) {
    const code = errorCodeOf(error);
    // On a full disk the file is created, but its content is not written.
    if (code !== 'EEXIST') await unlink(probe).catch(() => undefined);
    return code;
  }
  return unlink(probe).then(
    () => undefined,
    (error: unknown) => errorCodeOf(error),
  );
}
