/**
 * What a Machine that joins reads of its peers, page by page:
 *
 * ```
 * POST /v1/bindings  {from, of: "own" | "copies", after?: cursor}
 *                ->  {machine, owners: {<number>: id}, rows: [key, owner, generation, ageMs, ttlMs, key, ...], next?: cursor}
 * ```
 * `own`: the peer's own bindings. `copies`: its copies of bindings whose owners do not run; no owner has
 * confirmed them. All rows are one flat list. A row names its owner by a key of `owners`; the reader
 * skips rows whose owner is not named there. A cursor is valid only for the peer that gave it, until
 * that peer forgets the reading.
 */
import type { MachineId, SessionKey } from '../../session.ts';
import { PAGE_BINDINGS, ROW_FIELDS, type ToldPage } from '../../store/store.ts';
import { MAX_TOLD_TTL_MS } from '../../store/told-rows.ts';
import { isRecord, isGeneration, isWhole, keyIn, machineIn, parseRecord } from '../messages.ts';

export const BINDINGS_PATH = '/v1/bindings';

/** Bytes of one page at most: as many rows as it may have, as long as they may be, each of another owner. */
export const MAX_PAGE_BYTES = 160 * 1_024;

export type BindingsScope = 'own' | 'copies';

export interface BindingsRequest {
  readonly from: MachineId;
  readonly of: BindingsScope;
  /** Where to go on; undefined for the first page. */
  readonly after: string | undefined;
}

export interface BindingRow {
  readonly key: SessionKey;
  readonly generation: number;
  /** Since it was bound first, in ms. */
  readonly ageMs: number;
  /** Time to live left, in ms. */
  readonly ttlMs: number;
  readonly owner: MachineId;
}

export interface BindingsPage {
  readonly machine: MachineId;
  readonly bindings: readonly BindingRow[];
  /** Undefined in the last page. */
  readonly next: string | undefined;
}

const CURSOR = /^[0-9a-z-]{1,64}$/;

export function formatBindingsRequest({ from, of, after }: BindingsRequest): string {
  return JSON.stringify({ from, of, after });
}

/** By hand: the rows are JSON already, and no Machine id or number needs to be escaped. */
export function formatBindingsPage({
  machine,
  told: { rows, owners },
  next,
}: Omit<BindingsPage, 'bindings'> & { readonly told: ToldPage }): string {
  const names = [...owners].map(([number, owner]) => `"${number}":"${owner}"`).join();
  const cursor = next === undefined ? '' : `,"next":"${next}"`;
  return `{"machine":"${machine}","owners":{${names}},"rows":[${rows}]${cursor}}`;
}

/** Both parsers: undefined for anything that isn't wholly as it should be. */
export function parseBindingsRequest(text: string): BindingsRequest | undefined {
  const message = parseRecord(text);
  const from = machineIn(message?.from);
  const of = message?.of;
  if (!message || !from || (of !== 'own' && of !== 'copies')) return undefined;
  const { after } = message;
  return isCursor(after) ? { from, of, after } : undefined;
}

export function parseBindingsPage(text: string): BindingsPage | undefined {
  const message = parseRecord(text);
  const machine = machineIn(message?.machine);
  const owners = ownersIn(message?.owners);
  const bindings = owners && rowsIn(message?.rows, owners);
  const next = message?.next;
  return machine && bindings && isCursor(next) ? { machine, bindings, next } : undefined;
}

function ownersIn(value: unknown): Map<number, MachineId> | undefined {
  if (!isRecord(value)) return undefined;
  const owners = new Map<number, MachineId>();
  for (const [name, text] of Object.entries(value)) {
    const number = Number(name);
    const owner = machineIn(text);
    if (!owner || !isWhole(number) || owners.size === PAGE_BINDINGS) return undefined;
    owners.set(number, owner);
  }
  return owners;
}

/** Those of owners that are named. */
function rowsIn(
  value: unknown,
  owners: ReadonlyMap<number, MachineId>,
): readonly BindingRow[] | undefined {
  if (!Array.isArray(value) || value.length > PAGE_BINDINGS * ROW_FIELDS) return undefined;
  const fields = value as unknown[];
  if (fields.length % ROW_FIELDS > 0) return undefined;
  const rows: BindingRow[] = [];
  for (let at = 0; at < fields.length; at += ROW_FIELDS) {
    const key = keyIn(fields[at]);
    const [number, generation, ageMs, ttlMs] = fields.slice(at + 1, at + ROW_FIELDS);
    if (!key || !isWhole(number) || !isWhole(ageMs)) return undefined;
    if (!isGeneration(generation)) return undefined;
    if (!isWhole(ttlMs) || ttlMs < 1 || ttlMs > MAX_TOLD_TTL_MS) return undefined;
    const owner = owners.get(number);
    if (owner) rows.push({ key, generation, ageMs, ttlMs, owner });
  }
  return rows;
}

function isCursor(value: unknown): value is string | undefined {
  return value === undefined || (typeof value === 'string' && CURSOR.test(value));
}
