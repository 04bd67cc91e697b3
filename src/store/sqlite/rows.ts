/**
 * Converts rows of the SQLite file to bindings, for the reading connection and the writing one. A
 * row that can't have been written is a sign of damage that SQLite doesn't see, not a binding.
 */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import {
  parseMachineId,
  parseSessionKey,
  type Binding,
  type BindingOrigin,
  type MachineId,
  type SessionKey,
} from '../../session.ts';
import { MAX_PAGE_TTL_MS } from '../peer-pages.ts';
import { PAGE_BINDINGS, StoreError, type Owners, type PeerPage } from '../store.ts';

const KEY_BYTES = 16;

/** The numbers in the file. */
export const ORIGIN_NUMBERS = { learned: 0, adopted: 1, copied: 2 } as const;
const SQLITE_ORIGINS: readonly BindingOrigin[] = ['learned', 'adopted', 'copied'];

type Row = [
  machine: number,
  origin: number,
  generation: number,
  expiresAt: number,
  lifetimeMs: number,
];
const COLUMNS = 'machine, origin, generation, expires_at, lifetime_ms';

/**
 * Reads bindings, expired ones included. Every method may throw SQLite's errors, and `damaged`
 * ones.
 */
export interface RowReader {
  find(key: SessionKey): Binding | undefined;
  /** In the order of the keys, starting after `after`. */
  page(after: SessionKey | undefined, maxRows: number): Binding[];
  /** Call it after a rollback, which may have removed a Machine's number. */
  forgetMachines(): void;
}

export function createRowReader(db: Database): RowReader {
  const select = `SELECT ${COLUMNS}, key FROM sessions`;
  const row = db.prepare<[Buffer], Row>(`SELECT ${COLUMNS} FROM sessions WHERE key = ?`).raw(true);
  const rows = db
    .prepare<[Buffer, number], [...Row, Buffer]>(`${select} WHERE key > ? ORDER BY key LIMIT ?`)
    .raw(true);
  const machines = createMachineNames(db);
  // One object for all reads: SQLite copies the bound values.
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
        last = keyBehind(last, hexOf(found[5]));
        return toBinding(last, found);
      });
    },
    forgetMachines: () => machines.clear(),
  };
}

/**
 * A newer fly-affinity that shares the file may write more origins; the weakest is the safe choice.
 */
function originOf(number: number): BindingOrigin {
  if (number < 0) throw foundDamage(`there is no origin ${number}`);
  return SQLITE_ORIGINS[number] ?? 'copied';
}

/** A Machine keeps its number for ever, so it is looked up once. */
function createMachineNames(db: Database): {
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

export interface PeerPageRows {
  /** The bindings that have not expired. */
  readonly page: PeerPage;
  /** The row after which to continue; undefined after the last one. */
  readonly next: SessionKey | undefined;
}

export interface PeerPageQuery {
  readonly owners: Owners;
  readonly after: SessionKey | undefined;
  /** The maximum number of rows to visit. */
  readonly maxScanned: number;
  /** In whole ms since the epoch. */
  readonly now: number;
}

type Found = [count: number, lastKey: string, rows: string | null, owners: string | null];
interface Parameters {
  readonly from: Buffer;
  readonly maxScanned: number;
  readonly isOnly: number;
  readonly named: string;
  readonly now: number;
}

// The innermost query bounds the rows read, the one around it the rows returned. A time is bound as
// a floating-point number, and would be written as one.
const SELECT_PAGE = `
  SELECT count(*), lower(hex(max(key))), lower(group_concat(row)), group_concat(DISTINCT machine)
  FROM (
    SELECT key, machine, '"' || hex(key) || '",' || machine || ',' || generation || ',' ||
      max(moment - expires_at + lifetime_ms, 0) || ',' ||
      min(expires_at - moment, ${MAX_PAGE_TTL_MS}) AS row
    FROM (SELECT CAST(:now AS INTEGER) AS moment, * FROM sessions WHERE key > :from
      ORDER BY key LIMIT :maxScanned)
    WHERE expires_at > moment AND :isOnly = (machine IN
      (SELECT number FROM machines WHERE id IN (SELECT value FROM json_each(:named))))
    LIMIT ${PAGE_BINDINGS})`;

/** Throws SQLite's errors, and `damaged` ones. */
export function createPeerPageQuery(db: Database): (pick: PeerPageQuery) => PeerPageRows {
  const select = db.prepare<[Parameters], Found>(SELECT_PAGE).raw(true);
  const keyOfRow = db
    .prepare<[Buffer, number], string>(
      'SELECT lower(hex(key)) FROM sessions WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?',
    )
    .pluck(true);
  const machines = createMachineNames(db);

  const nameAll = (numbers: string): Map<number, MachineId> =>
    new Map(numbers.split(',').map((text) => [Number(text), machines.get(Number(text))]));

  return ({ owners, after, maxScanned, now }) => {
    const from = Buffer.from(after ?? '', 'hex');
    const isOnly = 'only' in owners;
    const named = JSON.stringify(isOnly ? [owners.only] : owners.except);
    const found = select.get({ from, maxScanned, isOnly: Number(isOnly), named, now });
    const [count = 0, lastKey, rows, numbers] = found ?? [];
    const last = count === PAGE_BINDINGS ? lastKey : keyOfRow.get(from, maxScanned - 1);
    return {
      page: { rows: wholeRows(rows ?? ''), owners: numbers ? nameAll(numbers) : new Map() },
      next: last === undefined ? undefined : keyBehind(after, last),
    };
  };
}

const WHOLE_ROWS = /^(?:"[0-9a-f]{32}"(?:,\d{1,16}){4}(?:,(?=")|$))*$/;

function wholeRows(rows: string): string {
  if (WHOLE_ROWS.test(rows)) return rows;
  throw foundDamage('a row has no key or no numbers');
}

/** Keys out of order could make pages endless. */
function keyBehind(after: SessionKey | undefined, text: string): SessionKey {
  const key = parseSessionKey(text);
  if (key === undefined) throw foundDamage('a row has no key');
  if (after !== undefined && key <= after) throw foundDamage(`the key ${key} is out of order`);
  return key;
}

function hexOf(bytes: unknown): string {
  return Buffer.isBuffer(bytes) ? bytes.toString('hex') : '';
}
