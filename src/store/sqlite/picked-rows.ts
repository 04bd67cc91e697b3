/**
 * Pages of some owners' bindings, which SQLite writes into one text by itself: a row in JavaScript
 * costs five times as much, and cloning it into another thread as much again.
 */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import { parseSessionKey } from '../../session.ts';
import type { MachineId, SessionKey } from '../../session.ts';
import { PAGE_BINDINGS } from '../store.ts';
import type { Owners, PeerPage } from '../store.ts';
import { MAX_PAGE_TTL_MS } from '../peer-pages.ts';
import { createMachineNames, foundDamage } from './rows.ts';

export interface PeerPageRows {
  /** What has not expired. */
  readonly page: PeerPage;
  /** Behind which row to go on; undefined after the last one. */
  readonly next: SessionKey | undefined;
}

export interface PeerPageQuery {
  readonly owners: Owners;
  readonly after: SessionKey | undefined;
  /** Rows that are looked at, at most. */
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

// The innermost query bounds what is read, the one around it what is handed over. A moment is bound
// as a floating-point number, and would be written as one.
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

/** Out of order, pages could go on for ever. */
function keyBehind(after: SessionKey | undefined, text: string): SessionKey {
  const key = parseSessionKey(text);
  if (key === undefined) throw foundDamage('a row has no key');
  if (after !== undefined && key <= after) throw foundDamage(`the key ${key} is out of order`);
  return key;
}
