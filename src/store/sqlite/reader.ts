/**
 * The point read on the main thread: through a connection that can't write and doesn't wait. In
 * WAL mode a reader needs no lock that a writer holds, so that "busy" is rare and means "unknown".
 */
import type { Binding, SessionKey } from '../../session.ts';
import { toSqliteStoreError } from './errors.ts';
import { openInPlace } from './file.ts';
import type { Inode } from './file.ts';
import { createRowReader } from './rows.ts';

export interface SqliteReader {
  /** What is committed, expired or not. Throws SQLite's errors, and a `damaged` one for odd rows. */
  find(key: SessionKey): Binding | undefined;
  close(): void;
}

/**
 * Opens the file that the writer thread holds open already. Throws SQLite's errors, and a
 * {@link StaleFileError} if it is not at the path any more. Damage is believed only when a fresh
 * connection finds it, too.
 */
export function openSqliteReader(path: string, database: Inode): SqliteReader {
  const open = (): SqliteReader => openOnce(path, database);
  let reader = unlessDamaged(open, open);
  return {
    find: (key) =>
      unlessDamaged(
        () => reader.find(key),
        () => {
          const fresh = open();
          reader.close();
          reader = fresh;
          return fresh.find(key);
        },
      ),
    close: () => reader.close(),
  };
}

function openOnce(path: string, database: Inode): SqliteReader {
  const db = openInPlace(path, database, { readonly: true, timeout: 0 });
  try {
    const rows = createRowReader(db);
    return { find: (key) => rows.find(key), close: () => void db.close() };
  } catch (error) {
    db.close();
    throw error;
  }
}

function unlessDamaged<Result>(read: () => Result, readAfresh: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (toSqliteStoreError('reading', error).code !== 'damaged') throw error;
    return readAfresh();
  }
}
