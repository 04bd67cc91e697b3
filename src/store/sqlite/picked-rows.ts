/**
 * Pages of some owners' bindings, as SQLite writes them into one text. An object a row would have to be
 * made in the writer's thread and cloned into another.
 */
import { Buffer } from 'node:buffer';
import type { Database } from 'better-sqlite3';
import { parseMachineId, parseSessionKey } from '../../affinity/session.ts';
import type { Binding, SessionKey } from '../../affinity/session.ts';
import { PAGE_BINDINGS } from '../store.ts';
import type { Owners } from '../store.ts';
import { foundDamage, ORIGINS } from './rows.ts';

/** Rows as lines, expired ones included. */
export interface PickedRows {
  readonly text: string;
  /** Behind which row to go on; undefined after the last one. */
  readonly next: SessionKey | undefined;
}

export interface Pick {
  readonly owners: Owners;
  readonly after: SessionKey | undefined;
  /** Rows that are looked at, at most. */
  readonly maxScanned: number;
}

type Page = [count: number, lastKey: string | null, text: string | null];

/** Throws SQLite's errors, and `damaged` ones. */
export function createRowPicker(db: Database): (pick: Pick) => PickedRows {
  // The innermost query bounds what is read, the one around it what is handed over.
  const page = db
    .prepare<[Buffer, number, number, string, number], Page>(
      `SELECT count(*), max(hex), group_concat(line, char(10)) FROM (
         SELECT lower(hex(key)) AS hex, lower(hex(key)) || ' ' || id || ' ' || origin || ' ' ||
           generation || ' ' || expires_at || ' ' || lifetime_ms AS line
         FROM (SELECT * FROM sessions WHERE key > ? ORDER BY key LIMIT ?)
         LEFT JOIN machines ON number = machine
         WHERE ? = (id IN (SELECT value FROM json_each(?)))
         LIMIT ?)`,
    )
    .raw(true);
  const keyOfRow = db
    .prepare<[Buffer, number], string>(
      'SELECT lower(hex(key)) FROM sessions WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?',
    )
    .pluck(true);

  return ({ owners, after, maxScanned }) => {
    const from = Buffer.from(after ?? '', 'hex');
    const isOnly = 'only' in owners;
    const named = JSON.stringify(isOnly ? [owners.only] : owners.except);
    const found = page.get(from, maxScanned, Number(isOnly), named, PAGE_BINDINGS);
    const [count = 0, lastKey, text] = found ?? [];
    const last = count === PAGE_BINDINGS ? lastKey : keyOfRow.get(from, maxScanned - 1);
    return { text: text ?? '', next: last ? keyBehind(after, last) : undefined };
  };
}

/** Throws a `damaged` error. The keys keep the whole text in memory: they are to be handed on, not kept. */
export function parsePicked(text: string): Binding[] {
  return text === '' ? [] : text.split('\n').map(parseLine);
}

function parseLine(line: string): Binding {
  const [keyText = '', id = '', origin, generation, expires, lifetime] = line.split(' ');
  const key = parseSessionKey(keyText);
  const machine = parseMachineId(id);
  const expiresAt = Number(expires);
  const createdAt = expiresAt - Number(lifetime);
  const isWhole = Number.isInteger(createdAt) && Number.isInteger(Number(generation));
  if (!key || !machine || !isWhole) throw foundDamage(`the row of ${keyText} is not whole`);
  return {
    ...{ key, machine, origin: ORIGINS[Number(origin)] ?? 'copied' },
    ...{ generation: Number(generation), createdAt, expiresAt },
  };
}

/** Out of order, pages could go on for ever. */
function keyBehind(after: SessionKey | undefined, text: string): SessionKey {
  const key = parseSessionKey(text);
  if (key === undefined) throw foundDamage('a row has no key');
  if (after !== undefined && key <= after) throw foundDamage(`the key ${key} is out of order`);
  return key;
}
