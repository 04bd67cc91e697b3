/**
 * The schema of the SQLite file, as the steps that lead to it. Forward only: a step that was
 * released is never changed, and the next one is one that an older sidecar beside us survives.
 */
import type { Database } from 'better-sqlite3';
import { StoreError } from './store.ts';

/** "FlyA" in ASCII: tells our file from another program's database. */
const APPLICATION_ID = 0x466c7941;

/**
 * Step n leads to `user_version` n + 1. At most 100 bytes on disk per session, indexes included:
 * so owners and origins are small numbers, and `lifetime_ms` stands for the moment of creation.
 */
const STEPS: readonly string[] = [
  `
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
];

export const SCHEMA_VERSION = STEPS.length;

/**
 * Brings the file to {@link SCHEMA_VERSION}, each step in a transaction of its own that reads the
 * version again once it holds the write lock: of any number of starters one takes each step.
 * Throws a `fatal` {@link StoreError} for a newer schema and for another program's database, both
 * before anything was written.
 */
export function migrate(db: Database, steps: readonly string[] = STEPS): void {
  refuseForeign(db, steps.length);
  while (schemaVersion(db) < steps.length) takeNextStep(db, steps);
  // Once more: a newer fly-affinity may have started meanwhile.
  refuseForeign(db, steps.length);
}

export function schemaVersion(db: Database): number {
  return Number(db.pragma('user_version', { simple: true }));
}

function takeNextStep(db: Database, steps: readonly string[]): void {
  const take = db.transaction(() => {
    const version = schemaVersion(db);
    const step = steps[version];
    // Another starter was faster.
    if (step === undefined) return;
    db.exec(step);
    db.pragma(`application_id = ${APPLICATION_ID}`);
    db.pragma(`user_version = ${version + 1}`);
  });
  take.immediate();
}

/** The three readings are of one moment, or another starter's step between them would look foreign. */
function refuseForeign(db: Database, knownVersion: number): void {
  const { version, applicationId, tableCount } = db.transaction(() => ({
    version: schemaVersion(db),
    applicationId: Number(db.pragma('application_id', { simple: true })),
    tableCount: Number(db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get()),
  }))();
  const isEmpty = version === 0 && applicationId === 0 && tableCount === 0;
  if (!isEmpty && applicationId !== APPLICATION_ID) {
    throw new StoreError(
      'fatal',
      "it is another program's SQLite database; set SESSION_STORE_PATH to a file of its own",
    );
  }
  if (version > knownVersion) {
    throw new StoreError(
      'fatal',
      `its schema has version ${version}, and this version of fly-affinity knows version ` +
        `${knownVersion} at most; start a newer fly-affinity, or move the file away`,
    );
  }
}
