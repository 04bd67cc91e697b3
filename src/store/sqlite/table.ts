/** The sessions table on the writing connection: the operations of the writer's transactions. */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../../session.ts';
import { createRowReader, foundDamage, ORIGIN_NUMBERS } from './rows.ts';
import type { RowReader } from './rows.ts';

export interface SessionTable extends RowReader {
  put(binding: Binding): void;
  remove(key: SessionKey): void;
  /**
   * Removes expired rows of any origin, `maxRemoved` at most (none if negative); returns how many.
   */
  removeExpired(now: number, maxRemoved: number): number;
  /** Removes the rows of one origin that expire first, `maxRemoved` at most (none if negative). */
  removeOldest(origin: BindingOrigin, maxRemoved: number): SessionKey[];
  /** Rows of one origin, expired ones included. */
  count(origin: BindingOrigin): number;
  countExpired(now: number): number;
}

const ALL_ORIGINS = Object.values(ORIGIN_NUMBERS);

export function createSessionTable(db: Database): SessionTable {
  const reader = createRowReader(db);
  const machines = createMachineNumbers(db);
  // Not REPLACE, which deletes without firing the counting trigger.
  const put = db.prepare(`
    INSERT INTO sessions (key, machine, origin, generation, expires_at, lifetime_ms)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET machine = excluded.machine, origin = excluded.origin,
      generation = excluded.generation, expires_at = excluded.expires_at,
      lifetime_ms = excluded.lifetime_ms`);
  const remove = db.prepare('DELETE FROM sessions WHERE key = ?');

  return {
    ...reader,
    ...prepareRemovals(db),
    ...prepareCounts(db),
    put: ({ key, machine, origin, generation, createdAt, expiresAt }) =>
      void put.run(
        bytesOf(key),
        machines.get(machine),
        ORIGIN_NUMBERS[origin],
        generation,
        expiresAt,
        expiresAt - createdAt,
      ),
    remove: (key) => void remove.run(bytesOf(key)),
    forgetMachines: () => {
      reader.forgetMachines();
      machines.clear();
    },
  };
}

function prepareRemovals(db: Database): Pick<SessionTable, 'removeExpired' | 'removeOldest'> {
  const removeExpired = db.prepare(`
    DELETE FROM sessions WHERE key IN (
      SELECT key FROM sessions WHERE origin = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?)`);
  const removeOldest = db
    .prepare<[number, number], Buffer>(
      `DELETE FROM sessions WHERE key IN (
         SELECT key FROM sessions WHERE origin = ? ORDER BY expires_at LIMIT ?)
       RETURNING key`,
    )
    .pluck(true);
  return {
    removeExpired: (now, maxRemoved) => {
      let removed = 0;
      for (const origin of ALL_ORIGINS) {
        if (removed < maxRemoved) {
          removed += removeExpired.run(origin, now, maxRemoved - removed).changes;
        }
      }
      return removed;
    },
    removeOldest: (origin, maxRemoved) =>
      // SQLite treats a negative limit as no limit.
      removeOldest
        .all(ORIGIN_NUMBERS[origin], Math.max(maxRemoved, 0))
        .map((key) => key.toString('hex') as SessionKey),
  };
}

function prepareCounts(db: Database): Pick<SessionTable, 'count' | 'countExpired'> {
  const count = db
    .prepare<[number], number>('SELECT sessions FROM counts WHERE origin = ?')
    .pluck(true);
  const countExpired = db
    .prepare<[number, number], number>(
      'SELECT count(*) FROM sessions WHERE origin = ? AND expires_at <= ?',
    )
    .pluck(true);
  return {
    count: (origin) => {
      const counted = count.get(ORIGIN_NUMBERS[origin]);
      if (counted !== undefined && Number.isInteger(counted) && counted >= 0) return counted;
      throw foundDamage(`the count of ${origin} bindings is ${String(counted)}`);
    },
    countExpired: (now) =>
      ALL_ORIGINS.reduce<number>((sum, origin) => sum + (countExpired.get(origin, now) ?? 0), 0),
  };
}

/** The number of a Machine, assigned on its first binding. */
function createMachineNumbers(db: Database): { get(id: MachineId): number; clear(): void } {
  const insert = db.prepare('INSERT INTO machines (id) VALUES (?)');
  const select = db
    .prepare<[MachineId], number>('SELECT number FROM machines WHERE id = ?')
    .pluck(true);
  const add = (id: MachineId): number => Number(insert.run(id).lastInsertRowid);
  const known = new Map<MachineId, number>();
  return {
    get: (id) => {
      const number = known.get(id) ?? select.get(id) ?? add(id);
      known.set(id, number);
      return number;
    },
    clear: () => known.clear(),
  };
}

function bytesOf(key: SessionKey): Buffer {
  return Buffer.from(key, 'hex');
}
