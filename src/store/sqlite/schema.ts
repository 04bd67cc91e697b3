/** The schema of the SQLite file, as a list of migration steps. */
import type { Database } from 'better-sqlite3';
import { nextStep } from '../migrations.ts';
import type { MigrationStep, NextStep, Schema } from '../migrations.ts';
import { StoreError } from '../store.ts';

/** "FlyA" in ASCII: distinguishes our file from another program's database. */
export const APPLICATION_ID = 0x466c7941;

/**
 * Step n leads to `user_version` n + 1. At most 100 bytes on disk per session, indexes included: so
 * owners and origins are small numbers, and `lifetime_ms` replaces the creation time.
 */
export const SQLITE_STEPS: readonly MigrationStep[] = [
  {
    oldestReader: 1,
    sql: `
  -- Never deleted from, so that a number means one Machine for ever and may be remembered.
  CREATE TABLE machines (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
  ) STRICT;

  CREATE TABLE sessions (
    key BLOB NOT NULL PRIMARY KEY,
    machine INTEGER NOT NULL,
    origin INTEGER NOT NULL,      -- 0 learned, 1 adopted, 2 copied
    generation INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,  -- ms since the epoch
    lifetime_ms INTEGER NOT NULL  -- expires_at less the moment of creation
  ) STRICT, WITHOUT ROWID;

  -- For the clean-up, and for the least recently used of each origin.
  CREATE INDEX sessions_by_expiry ON sessions (origin, expires_at);

  -- How many rows there are, without counting a million of them.
  CREATE TABLE counts (
    origin INTEGER PRIMARY KEY,
    sessions INTEGER NOT NULL
  ) STRICT;
  INSERT INTO counts VALUES (0, 0), (1, 0), (2, 0);

  CREATE TRIGGER count_inserted AFTER INSERT ON sessions BEGIN
    UPDATE counts SET sessions = sessions + 1 WHERE origin = new.origin;
  END;
  CREATE TRIGGER count_deleted AFTER DELETE ON sessions BEGIN
    UPDATE counts SET sessions = sessions - 1 WHERE origin = old.origin;
  END;
  CREATE TRIGGER count_changed AFTER UPDATE OF origin ON sessions
  WHEN old.origin <> new.origin BEGIN
    UPDATE counts SET sessions = sessions - 1 WHERE origin = old.origin;
    UPDATE counts SET sessions = sessions + 1 WHERE origin = new.origin;
  END;
  `,
  },
  {
    oldestReader: 1,
    sql: `
  -- From version 2 on: when which version came, and who still understands it.
  CREATE TABLE migrations (
    version INTEGER PRIMARY KEY,
    oldest_reader INTEGER NOT NULL,
    applied_at TEXT NOT NULL      -- UTC
  ) STRICT;
  `,
  },
];

const FIRST_RECORDED_VERSION = 2;
export const SQLITE_SCHEMA_VERSION = SQLITE_STEPS.length;

/**
 * Migrates the file to {@link SQLITE_SCHEMA_VERSION}, or leaves a newer compatible one as it is.
 * Throws a `fatal` {@link StoreError} for an incompatible one, and for another program's database,
 * both before anything was written; and SQLite's errors.
 */
export function migrateSqlite(db: Database, steps = SQLITE_STEPS): void {
  const takeNextStep = db.transaction(() => {
    const next = nextStep(look(db), steps);
    // None if another process was faster.
    if (next !== undefined) take(db, next);
  });
  while (nextStep(look(db), steps) !== undefined) takeNextStep.immediate();
}

/** Reads everything at one moment, or another process's step in between would look foreign. */
function look(db: Database): Schema {
  return db.transaction(() => {
    const version = Number(db.pragma('user_version', { simple: true }));
    refuseForeign(db, version);
    return { version, oldestReader: oldestReaderOf(db, version) };
  })();
}

function refuseForeign(db: Database, version: number): void {
  const applicationId = Number(db.pragma('application_id', { simple: true }));
  const tableCount = Number(db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get());
  const isEmpty = version === 0 && applicationId === 0 && tableCount === 0;
  if (isEmpty || applicationId === APPLICATION_ID) return;
  throw new StoreError(
    'fatal',
    "it is another program's SQLite database; set SESSION_STORE_PATH to a file of its own",
  );
}

/** A version without a record is readable only by the same version. */
function oldestReaderOf(db: Database, version: number): number {
  if (version < FIRST_RECORDED_VERSION) return version;
  const recorded = db
    .prepare<[number], number>('SELECT oldest_reader FROM migrations WHERE version = ?')
    .pluck(true)
    .get(version);
  return recorded ?? version;
}

function take(db: Database, { sql, becomes: { version, oldestReader } }: NextStep): void {
  db.exec(sql);
  if (version >= FIRST_RECORDED_VERSION) {
    db.prepare(
      `INSERT INTO migrations (version, oldest_reader, applied_at)
       VALUES (?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))`,
    ).run(version, oldestReader);
  }
  db.pragma(`application_id = ${APPLICATION_ID}`);
  db.pragma(`user_version = ${version}`);
}
