/** Plain better-sqlite3 on a file of the store: the floors. Its keys are already bytes. */
import { Buffer } from 'node:buffer';
import Database from 'better-sqlite3';
import type { SessionKey } from '../../src/session.ts';
import type { Stage } from './bench.ts';
import { HOUR_MS } from './store-sessions.ts';

export function bytesOf(keys: readonly SessionKey[]): Buffer[] {
  return keys.map((key) => Buffer.from(key, 'hex'));
}

/** Reads the row of a key. */
export function openBareReader(stage: Stage, path: string): (key: Buffer) => unknown {
  const db = new Database(path, { readonly: true });
  stage.after(() => db.close());
  const statement = db.prepare<[Buffer]>('SELECT * FROM sessions WHERE key = ?');
  return (key) => statement.get(key);
}

export interface BareWriter {
  /** In a transaction of its own. */
  readonly write: (key: Buffer) => void;
  /** In one transaction. */
  readonly writeAll: (keys: readonly Buffer[]) => void;
}

/**
 * The minimal code for rows that expire: an upsert, without a read of the current binding. The
 * columns, the index by expiry, the log and `synchronous` are those of the store; its triggers,
 * which count the rows, are removed.
 */
export function openBareWriter(stage: Stage, path: string): BareWriter {
  const db = new Database(path);
  stage.after(() => db.close());
  db.pragma('synchronous = NORMAL');
  for (const trigger of triggersOf(db)) db.exec(`DROP TRIGGER ${trigger}`);
  const upsert = db.prepare<[Buffer, number, number]>(`
    INSERT INTO sessions (key, machine, origin, generation, expires_at, lifetime_ms)
    VALUES (?, 1, 0, 1, ?, ?)
    ON CONFLICT (key) DO UPDATE SET machine = excluded.machine, origin = excluded.origin,
      generation = excluded.generation, expires_at = excluded.expires_at,
      lifetime_ms = excluded.lifetime_ms`);
  const write = (key: Buffer): void => void upsert.run(key, Date.now() + HOUR_MS, HOUR_MS);
  return { write, writeAll: db.transaction((keys: readonly Buffer[]) => keys.forEach(write)) };
}

function triggersOf(db: Database.Database): string[] {
  const select = db.prepare<[], string>(`SELECT name FROM sqlite_schema WHERE type = 'trigger'`);
  return select.pluck(true).all();
}
