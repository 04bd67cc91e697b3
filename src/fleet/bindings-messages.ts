/**
 * What a Machine that joins reads of its peers, page by page:
 *
 * ```
 * POST /v1/bindings  {from, of: "own" | "copies", after?: cursor}
 *                ->  {machine, bindings: [[key, generation, ageMs, ttlMs, owner?]], next?: cursor}
 * ```
 * `own`: what the peer owns itself. `copies`: what it was told by Machines that do not run; `owner`
 * names them, and that is hearsay. Ages and times left, as no two clocks agree. A cursor means
 * something to the peer that gave it, for as long as it remembers the reading.
 */
import type { Binding, MachineId, SessionKey } from '../affinity/session.ts';
import { isWhole, keyIn, listOf, machineIn, MAX_TTL_MS, parseRecord } from './messages.ts';

export const BINDINGS_PATH = '/v1/bindings';

export type BindingsScope = 'own' | 'copies';

export interface BindingsRequest {
  readonly from: MachineId;
  readonly of: BindingsScope;
  /** Where to go on; undefined for the first page. */
  readonly after: string | undefined;
}

export interface StatedRow {
  readonly key: SessionKey;
  readonly generation: number;
  /** Since it was bound first, in ms. */
  readonly ageMs: number;
  /** Time to live left, in ms. */
  readonly ttlMs: number;
  /** Undefined in what the peer owns itself. */
  readonly owner: MachineId | undefined;
}

export interface BindingsPage {
  readonly machine: MachineId;
  readonly bindings: readonly StatedRow[];
  /** Undefined in the last page. */
  readonly next: string | undefined;
}

const CURSOR = /^[0-9a-z-]{1,64}$/;

export function formatBindingsRequest({ from, of, after }: BindingsRequest): string {
  return JSON.stringify({ from, of, after });
}

/** Rows are lists, not objects, which is shorter. Joined by hand: no key, Machine id or number needs to be escaped. */
export function formatBindingsPage(
  page: Omit<BindingsPage, 'bindings'> & { readonly bindings: readonly Binding[] },
  of: BindingsScope,
  now: number,
): string {
  let rows = '';
  for (const { key, machine, generation, createdAt, expiresAt } of page.bindings) {
    const ageMs = Math.max(Math.floor(now - createdAt), 0);
    const ttlMs = Math.min(Math.max(Math.ceil(expiresAt - now), 1), MAX_TTL_MS);
    const owner = of === 'own' ? '' : `,"${machine}"`;
    const comma = rows === '' ? '' : ',';
    rows += `${comma}["${key}",${generation},${ageMs},${ttlMs}${owner}]`;
  }
  const next = page.next === undefined ? '' : `,"next":"${page.next}"`;
  return `{"machine":"${page.machine}","bindings":[${rows}]${next}}`;
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
  const bindings = listOf(message?.bindings, rowIn);
  const next = message?.next;
  return machine && bindings && isCursor(next) ? { machine, bindings, next } : undefined;
}

function rowIn(value: unknown): StatedRow | undefined {
  if (!Array.isArray(value) || value.length > 5) return undefined;
  const [keyText, generation, ageMs, ttlMs, ownerText] = value as unknown[];
  const key = keyIn(keyText);
  const owner = machineIn(ownerText);
  if (!key || (owner === undefined && ownerText !== undefined)) return undefined;
  if (!isWhole(generation) || generation < 1 || !isWhole(ageMs)) return undefined;
  if (!isWhole(ttlMs) || ttlMs < 1 || ttlMs > MAX_TTL_MS) return undefined;
  return { key, generation, ageMs, ttlMs, owner };
}

function isCursor(value: unknown): value is string | undefined {
  return value === undefined || (typeof value === 'string' && CURSOR.test(value));
}
