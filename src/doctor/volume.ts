/** The directory of the session store: whether it persists, and whether it is writable. */
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
      /** Why nothing can be written there; undefined if it can. */
      readonly writeError: string | undefined;
    };

/** A million sessions take 70 MB, and as much again while the log is written back. */
const LITTLE_ROOM_BYTES = 200_000_000;
const BYTES_PER_MB = 1_000_000;

/** `isNeeded`: the store is the file there, and not only what a database could not be told yet. */
export function checkVolume(facts: VolumeFacts, isNeeded: boolean): Finding[] {
  const { directory } = facts;
  const grave = isNeeded ? error : warning;
  const why = isNeeded
    ? 'Memory stands in for the file, so that a restart forgets the sessions of this Machine.'
    : 'What the database can not be told at once would be kept there, and is lost with a restart.';
  if (facts.kind === 'missing') {
    return [
      warning(
        `${directory} is not there.`,
        'The sidecar makes it, on the root disk, which is made anew with every deploy.',
        '[mounts] in fly.toml, with its destination above SESSION_STORE_PATH',
      ),
    ];
  }
  if (facts.kind === 'unusable') {
    return [grave(`${directory} can not be used (${facts.reason}).`, why)];
  }
  const { isOnRootDisk, freeBytes, writeError } = facts;
  if (writeError !== undefined) {
    return [
      grave(
        `Nothing can be written to ${directory} (${writeError}).`,
        `${why} A fresh volume belongs to root.`,
        `start the sidecar by /opt/fly-affinity/start, or: chown 1000:1000 ${directory}`,
      ),
    ];
  }
  const findings = [ok(`${directory} can be written to.`), ...judgeRoom(directory, freeBytes)];
  if (!isOnRootDisk) return findings;
  const remark = isNeeded ? warning : note;
  return [
    ...findings,
    remark(
      `${directory} is on the root disk.`,
      'That is made anew with every deploy, and the file with it.',
      '[mounts] in fly.toml, with its destination above SESSION_STORE_PATH',
    ),
  ];
}

function judgeRoom(directory: string, freeBytes: number): Finding[] {
  const freeMb = Math.floor(freeBytes / BYTES_PER_MB);
  if (freeBytes >= LITTLE_ROOM_BYTES) return [ok(`${freeMb} MB are free there.`)];
  return [
    warning(
      `${directory} has ${freeMb} MB left.`,
      'When the disk is full, memory takes what is to be written, and a restart forgets it.',
      'make room, or: fly volumes extend',
    ),
  ];
}

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
