/** Rows of the SQLite file as bindings. The reading connection and the writing one share it. */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../affinity/session.ts';

export const KEY_BYTES = 16;

/** As numbered in the file. */
export const ORIGIN_NUMBERS = { learned: 0, adopted: 1, copied: 2 } as const;
const ORIGINS: readonly BindingOrigin[] = ['learned', 'adopted', 'copied'];

type Row = [
  machine: number,
  origin: number,
  generation: number,
  expiresAt: number,
  lifetimeMs: number,
];
const COLUMNS = 'machine, origin, generation, expires_at, lifetime_ms';

/** Reads bindings, expired ones included. Every method may throw SQLite's errors. */
export interface RowReader {
  find(key: SessionKey): Binding | undefined;
  /** In the order of the keys, beginning behind `after`. */
  page(after: SessionKey | undefined, maxRows: number): Binding[];
  /** To be called after a rollback, which may have taken back a Machine's number. */
  forgetMachines(): void;
}

export function createRowReader(db: Database): RowReader {
  const select = `SELECT ${COLUMNS}, key FROM sessions`;
  const row = db.prepare<[Buffer], Row>(`SELECT ${COLUMNS} FROM sessions WHERE key = ?`).raw(true);
  const rows = db
    .prepare<[Buffer, number], [...Row, Buffer]>(`${select} WHERE key > ? ORDER BY key LIMIT ?`)
    .raw(true);
  const machines = createMachineNames(db);
  // One for all reads: SQLite copies what is bound.
  const keyBytes = Buffer.alloc(KEY_BYTES);

  const toBinding = (key: SessionKey, row: Row | [...Row, Buffer]): Binding => ({
    key,
    machine: machines.get(row[0]),
    // A newer fly-affinity beside us may know more origins; the weakest is the safe guess.
    origin: ORIGINS[row[1]] ?? 'copied',
    generation: row[2],
    createdAt: row[3] - row[4],
    expiresAt: row[3],
  });

  return {
    find: (key) => {
      keyBytes.write(key, 'hex');
      const found = row.get(keyBytes);
      return found === undefined ? undefined : toBinding(key, found);
    },
    page: (after, maxRows) =>
      rows
        .all(Buffer.from(after ?? '', 'hex'), maxRows)
        .map((found) => toBinding(found[5].toString('hex') as SessionKey, found)),
    forgetMachines: () => machines.clear(),
  };
}

/** A Machine keeps its number for ever, so it is looked up once. */
function createMachineNames(db: Database): { get(number: number): MachineId; clear(): void } {
  const select = db
    .prepare<[number], MachineId>('SELECT id FROM machines WHERE number = ?')
    .pluck(true);
  const known = new Map<number, MachineId>();
  return {
    get: (number) => {
      const id = known.get(number) ?? select.get(number);
      if (id === undefined) throw new Error(`Machine ${number} has no row`);
      known.set(number, id);
      return id;
    },
    clear: () => known.clear(),
  };
}
