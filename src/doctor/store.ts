/**
 * Checks the session store: whether its directory persists and is writable, and whether this
 * version can use the file.
 */
import { open, stat, statfs, unlink, writeFile } from 'node:fs/promises';
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
    return [severity(`The sidecar cannot use ${directory} (${facts.reason}).`, why)];
  }
  const { isOnRootDisk, freeBytes, writeError } = facts;
  if (writeError !== undefined) {
    return [
      severity(
        `${directory} is not writable (${writeError}).`,
        `${why} A new volume belongs to root.`,
        `start the sidecar with /opt/fly-affinity/start as root and RUN_AS=uid:gid, or run chown uid:gid ${directory}`,
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

export type FileFacts =
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreadable'; readonly reason: string }
  | { readonly kind: 'not-sqlite' }
  /** As its header states; the latest changes may still be in the write-ahead log. */
  | { readonly kind: 'database'; readonly applicationId: number; readonly version: number };

/** The schema that this version writes. */
interface KnownSchema {
  readonly applicationId: number;
  readonly version: number;
}

export function checkFile(path: string, facts: FileFacts, known: KnownSchema): Finding[] {
  switch (facts.kind) {
    case 'absent':
      return [
        note(
          `The session store ${path} does not exist yet.`,
          'The sidecar creates it when it starts.',
        ),
      ];
    case 'unreadable':
      return [
        error(
          `Could not read ${path} (${facts.reason}).`,
          'The sidecar keeps its session records in memory, and a restart loses them.',
          'let the user of the sidecar read and write the file, or set SESSION_STORE_PATH to another file',
        ),
      ];
    case 'not-sqlite':
      return [
        warning(
          `${path} is not a SQLite database, or is damaged.`,
          'The sidecar renames the file to NAME.damaged-TIME, and creates a new one.',
          'another SESSION_STORE_PATH, if the file belongs to another program',
        ),
      ];
    case 'database':
      return [checkSchema(path, facts.applicationId, facts.version, known)];
  }
}

function checkSchema(
  path: string,
  applicationId: number,
  version: number,
  known: KnownSchema,
): Finding {
  // The header of a new database may still be in the write-ahead log.
  const isEmpty = applicationId === 0 && version === 0;
  if (!isEmpty && applicationId !== known.applicationId) {
    return error(
      `${path} is the database of another program.`,
      'The sidecar does not open it, and keeps its session records in memory.',
      'SESSION_STORE_PATH=/data/session-store.sqlite, or another file that no other program uses',
    );
  }
  if (version > known.version) {
    return warning(
      `${path} has the schema of a newer version (${version}; this version knows ${known.version}).`,
      'The sidecar uses it only if the newer version declared it compatible; else it keeps records in memory.',
      'upgrade fly-affinity to the version that wrote the file',
    );
  }
  return ok(`${path} is a session store.`);
}

const HEADER_BYTES = 100;
const MAGIC = 'SQLite format 3\0';
const USER_VERSION_AT = 60;
const APPLICATION_ID_AT = 68;

/** Never rejects. */
export async function probeFile(path: string): Promise<FileFacts> {
  try {
    const header = await readHeader(path);
    // SQLite opens an empty file as a new database.
    if (header.length === 0) return { kind: 'database', applicationId: 0, version: 0 };
    if (header.length < HEADER_BYTES || header.toString('latin1', 0, MAGIC.length) !== MAGIC) {
      return { kind: 'not-sqlite' };
    }
    return {
      kind: 'database',
      applicationId: header.readUInt32BE(APPLICATION_ID_AT),
      version: header.readUInt32BE(USER_VERSION_AT),
    };
  } catch (error) {
    const reason = errorCodeOf(error);
    return reason === 'ENOENT' ? { kind: 'absent' } : { kind: 'unreadable', reason };
  }
}

async function readHeader(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
