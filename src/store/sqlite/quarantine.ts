/**
 * A damaged file out of the way of a new one: renamed to `<path>.damaged-<UTC time>` together with
 * its log and its index, for whoever wants to look into it. The newest few are kept.
 */
import { Buffer } from 'node:buffer';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { isElsewhere, logOf } from './file.ts';
import type { OpenedFiles } from './file.ts';
import { APPLICATION_ID } from './schema.ts';

/** A bound for the disk: each may be as large as the store. */
const MAX_KEPT = 3;
const LOG_SUFFIXES = ['-wal', '-shm'];
/** The file last: a new one must find neither log nor index, or it would take them for its own. */
const SUFFIXES = [...LOG_SUFFIXES, ''];

/**
 * Returns where the file is now; undefined if it is no longer the one at the path, as another
 * process was faster. To be called when no connection of this process has it open; one of another
 * process finds it moved. Synchronous, so that hardly anything comes between the look and the
 * renaming. Throws the file system's errors.
 */
export function quarantineFile(path: string, opened: OpenedFiles, now: number): string | undefined {
  if (isElsewhere(path, opened.database)) return undefined;
  return rename(path, SUFFIXES, now);
}

/**
 * The same for the log that a file left behind which is no longer there: whatever takes the place of
 * the file would take the log for its own.
 */
export function quarantineLog(path: string, opened: OpenedFiles, now: number): void {
  const isOrphan = isElsewhere(path, opened.database) && !isElsewhere(logOf(path), opened.log);
  if (isOrphan) rename(path, LOG_SUFFIXES, now);
}

function rename(path: string, suffixes: readonly string[], now: number): string {
  const aside = freeName(path, now);
  for (const suffix of suffixes) {
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  }
  removeOldest(path, aside);
  return aside;
}

/** Sorts by time. Never the name of one that is there: a rename would replace it. */
function freeName(path: string, now: number): string {
  const time = new Date(now).toISOString().replaceAll(/[-:]/g, '');
  const name = `${path}.damaged-${time}`;
  return SUFFIXES.some((suffix) => existsSync(name + suffix)) ? freeName(path, now + 1) : name;
}

/** The one just set aside stays, whatever a clock that was wrong has called the others. */
function removeOldest(path: string, aside: string): void {
  const stem = `${path}.damaged-`;
  const asides = new Set<string>();
  for (const name of readdirSync(dirname(path))) {
    const found = /^(.+\.damaged-\d{8}T\d{6}\.\d{3}Z)(-wal|-shm)?$/.exec(name)?.[1];
    if (found) asides.add(join(dirname(path), found));
  }
  const others = [...asides].filter((each) => each.startsWith(stem) && each !== aside).sort();
  for (const oldest of others.slice(0, 1 - MAX_KEPT)) {
    for (const suffix of SUFFIXES) rmSync(oldest + suffix, { force: true });
  }
}

/** https://www.sqlite.org/fileformat.html#the_database_header */
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1');
const APPLICATION_ID_AT = 68;
const HEADER_BYTES = 100;

/**
 * Whether a file that is no sound database was one of ours, by what is left of its header: our
 * application id, or zeros only, as a crashed computer leaves them, or nothing but SQLite's first
 * bytes. Anything else may be dear to somebody. To be called when no connection of this process has
 * the file open: closing it takes away their locks.
 */
export function wasOurs(path: string): boolean {
  const header = readHeader(path);
  if (header.every((byte) => byte === 0)) return true;
  if (header.length >= APPLICATION_ID_AT + 4) {
    return header.readInt32BE(APPLICATION_ID_AT) === APPLICATION_ID;
  }
  return header.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, header.length));
}

function readHeader(path: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const descriptor = openSync(path, 'r');
  try {
    return header.subarray(0, readSync(descriptor, header, 0, HEADER_BYTES, 0));
  } finally {
    closeSync(descriptor);
  }
}
