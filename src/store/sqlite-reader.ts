/**
 * The point read on the main thread: through a connection that can't write and doesn't wait. In
 * WAL mode a reader needs no lock that a writer holds, so that "busy" is rare and means "unknown".
 */
import Database from 'better-sqlite3';
import type { Binding, SessionKey } from '../affinity/session.ts';
import { createRowReader } from './sqlite-rows.ts';

export interface SqliteReader {
  /** What is committed, expired or not. Throws SQLite's errors. */
  find(key: SessionKey): Binding | undefined;
  close(): void;
}

/** Opens a file that the writer thread holds open already. Throws SQLite's errors. */
export function openSqliteReader(path: string): SqliteReader {
  const db = new Database(path, { readonly: true, fileMustExist: true, timeout: 0 });
  try {
    const rows = createRowReader(db);
    return { find: (key) => rows.find(key), close: () => void db.close() };
  } catch (error) {
    db.close();
    throw error;
  }
}
