/**
 * Rows of the SQLite file as bindings. The reading connection and the writing one share it. What
 * can't have been written is a sign of damage that SQLite doesn't see, and no binding.
 */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import { parseMachineId, parseSessionKey } from '../../session.ts';
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../../session.ts';
import { StoreError } from '../store.ts';

export const KEY_BYTES = 16;

/** As numbered in the file. */
export const ORIGIN_NUMBERS = { learned: 0, adopted: 1, copied: 2 } as const;
export const ORIGINS: readonly BindingOrigin[] = ['learned', 'adopted', 'copied'];

type Row = [
  machine: number,
  origin: number,
  generation: number,
  expiresAt: number,
  lifetimeMs: number,
];
const COLUMNS = 'machine, origin, generation, expires_at, lifetime_ms';

/** Reads bindings, expired ones included. Every method may throw SQLite's errors, and `damaged` ones. */
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

  const toBinding = (key: SessionKey, row: Row | [...Row, Buffer]): Binding => {
    const [machine, origin, generation, expiresAt, lifetimeMs] = row;
    const isWhole =
      Number.isInteger(origin) &&
      Number.isInteger(generation) &&
      Number.isInteger(expiresAt) &&
      Number.isInteger(lifetimeMs);
    if (!isWhole) throw foundDamage(`the row of ${key} has no numbers`);
    return {
      key,
      machine: machines.get(machine),
      origin: originOf(origin),
      generation,
      createdAt: expiresAt - lifetimeMs,
      expiresAt,
    };
  };

  return {
    find: (key) => {
      keyBytes.write(key, 'hex');
      const found = row.get(keyBytes);
      return found === undefined ? undefined : toBinding(key, found);
    },
    page: (after, maxRows) => {
      let last = after;
      return rows.all(Buffer.from(after ?? '', 'hex'), maxRows).map((found) => {
        last = keyBehind(last, found[5]);
        return toBinding(last, found);
      });
    },
    forgetMachines: () => machines.clear(),
  };
}

/** Out of order, pages could go on for ever. */
function keyBehind(last: SessionKey | undefined, bytes: unknown): SessionKey {
  const key = Buffer.isBuffer(bytes) ? parseSessionKey(bytes.toString('hex')) : undefined;
  if (key === undefined) throw foundDamage('a row has no key');
  if (last !== undefined && key <= last) throw foundDamage(`the key ${key} is out of order`);
  return key;
}

/** A newer fly-affinity beside us may know more origins; the weakest is the safe guess. */
function originOf(number: number): BindingOrigin {
  if (number < 0) throw foundDamage(`there is no origin ${number}`);
  return ORIGINS[number] ?? 'copied';
}

/** A Machine keeps its number for ever, so it is looked up once. */
export function createMachineNames(db: Database): {
  get(number: number): MachineId;
  clear(): void;
} {
  const select = db.prepare<[number]>('SELECT id FROM machines WHERE number = ?').pluck(true);
  const known = new Map<number, MachineId>();
  return {
    get: (number) => {
      const id = known.get(number) ?? readMachine(number, select.get(number));
      known.set(number, id);
      return id;
    },
    clear: () => known.clear(),
  };
}

function readMachine(number: number, found: unknown): MachineId {
  const id =
    typeof number === 'number' && typeof found === 'string' ? parseMachineId(found) : undefined;
  if (id === undefined) throw foundDamage(`there is no Machine ${number}`);
  return id;
}

export function foundDamage(found: string): StoreError {
  return new StoreError('damaged', `the file of the session store is damaged: ${found}`);
}
