/**
 * Looks at the header of the SQLite file (https://www.sqlite.org/fileformat.html#the_database_header).
 * Not through SQLite, which makes files beside it even for a reader.
 */
import { open } from 'node:fs/promises';
import type { FileFacts } from '../store.ts';
import { errorCodeOf } from './within.ts';

const HEADER_BYTES = 100;
const MAGIC = 'SQLite format 3\0';
const USER_VERSION_AT = 60;
const APPLICATION_ID_AT = 68;

/** Never rejects. */
export async function probeFile(path: string): Promise<FileFacts> {
  try {
    const header = await readHeader(path);
    // An empty file is a new database.
    if (header.length === 0) return { kind: 'database', applicationId: 0, version: 0 };
    if (header.length < HEADER_BYTES || header.toString('latin1', 0, MAGIC.length) !== MAGIC) {
      return { kind: 'no-database' };
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
