/**
 * Bindings as the rows of a page for a peer, which are members of a JSON list, without its brackets:
 *
 * ```
 * "key",owner,generation,ageMs,ttlMs,"key",owner,generation,ageMs,ttlMs
 * ```
 * `owner` is a number that the page explains. Ages and times left are whole ms, as no two Machines'
 * clocks agree. Nothing in a row needs to be escaped. SQLite makes the same text by itself.
 */
import type { Binding, MachineId } from '../session.ts';
import {
  StoreError,
  type Owners,
  type PeerCopy,
  type PeerPage,
  type SessionStore,
} from './store.ts';

/** The longest time to live that a page reports, in ms: a year. Longer ones are cut. */
export const MAX_PAGE_TTL_MS = 366 * 24 * 3_600_000;

/** `now` is a whole number, and no binding has expired by then. */
export function peerPageOf(bindings: readonly Binding[], now: number): PeerPage {
  const numbers = new Map<MachineId, number>();
  let rows = '';
  for (const { key, machine, generation, createdAt, expiresAt } of bindings) {
    const owner = numbers.get(machine) ?? numbers.size;
    numbers.set(machine, owner);
    const ageMs = Math.max(now - createdAt, 0);
    const ttlMs = Math.min(expiresAt - now, MAX_PAGE_TTL_MS);
    const comma = rows === '' ? '' : ',';
    rows += `${comma}"${key}",${owner},${generation},${ageMs},${ttlMs}`;
  }
  const owners = new Map([...numbers].map(([machine, owner]) => [owner, machine]));
  return { rows, owners };
}

/** Throws if the store has no pages. */
export function pagesOf(store: SessionStore, owners: Owners): AsyncIterable<PeerPage> {
  if (store.pages === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.pages(owners);
}

/** Rejects if the store takes no copies. */
export async function addCopiesTo(
  store: SessionStore,
  copies: readonly PeerCopy[],
): Promise<number> {
  if (store.addCopies === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.addCopies(copies);
}

const NOTHING_TO_TELL = 'this session store does not exchange bindings at a join';
