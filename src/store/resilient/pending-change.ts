/**
 * All changes of one key that were accepted here and are not in the store yet, merged into one.
 *
 * A binding that another Machine made meanwhile stays. So a removal names the owner of the removed
 * binding, and a binding is written with its generation: of two owners of one generation a store
 * keeps the one it has. Flushing a change twice leaves what flushing it once leaves, so a lost
 * response does no harm.
 */
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import { wholeTtlMs, type Outcome, type Write } from '../rules.ts';
import { EVICTION_ORDER, type Lookup, type SessionStore } from '../store.ts';

export interface PendingChange {
  /** Removed first: the binding of any of these owners, or of any owner. */
  readonly removed: readonly MachineId[] | 'any';
  readonly then: Then;
  /** Whether `binding` is the whole state of the key, whatever the store holds. */
  readonly isCertain: boolean;
  /** From then on the change need not be flushed: the outdated binding in the store has expired. */
  readonly until: number;
}

type Then =
  | { readonly kind: 'nothing' }
  /** `owners`: the owners here since the removal, or before the store failed. */
  | { readonly kind: 'bind'; readonly binding: Binding; readonly owners: readonly MachineId[] }
  /** A change of a binding that is not known here. */
  | { readonly kind: 'touch' | 'expire'; readonly expiresAt: number };

/** Two Machines own the session: a change that was accepted here, and the store. */
export interface Conflict {
  readonly key: SessionKey;
  readonly accepted: MachineId;
  readonly owner: MachineId;
}

const NOTHING = { kind: 'nothing' } as const;

/** A write that was performed here. */
interface Performed {
  readonly write: Write;
  /** The binding before; undefined too if it is not known. */
  readonly found: Binding | undefined;
  readonly outcome: Outcome;
}

/** `lifeMs`: how long an unused binding lives. Returns the same object if nothing has changed. */
export function changeAfter(
  change: PendingChange | undefined,
  { write, found, outcome }: Performed,
  lifeMs: number,
): PendingChange | undefined {
  const { after, hasTakenEffect } = outcome;
  const before = withoutExpired(change, write.now);
  if (after) {
    return hasTakenEffect && after !== found ? changeToBinding(after, found, before) : change;
  }
  if (found) return changeToRemoval(found, before);
  // An absent key can be neither extended nor removed.
  if (before?.isCertain) return change;
  const until = Math.max(before?.until ?? 0, write.now + lifeMs);
  switch (write.kind) {
    case 'touch':
    case 'expireWithin':
      return slideOfUnknown(write, before, until);
    case 'delete':
      return removalOfUnknown(write.ifMachine, before, until);
    default:
      return change;
  }
}

/** The result of a lookup, if `found` is what the store holds or was known to hold. */
export function seenThrough(change: PendingChange, found: Lookup, now: number): Lookup {
  const { removed, then, isCertain } = change;
  if (then.kind === 'bind') return then.binding.expiresAt > now ? then.binding : 'absent';
  if (found === 'unknown') return isCertain ? 'absent' : 'unknown';
  if (found === 'absent') return 'absent';
  if (removed === 'any' || removed.includes(found.machine)) return 'absent';
  if (then.kind === 'nothing') return found;
  const limit = then.kind === 'touch' ? Math.max : Math.min;
  return { ...found, expiresAt: limit(found.expiresAt, then.expiresAt) };
}

/**
 * Writes the change to `store`. Resolves to the key's state in the store, as far as it is known.
 * `mayGoOn` is called before each write: once a newer change may have been flushed, this one must
 * not follow it.
 */
export async function flushChange(
  store: SessionStore,
  key: SessionKey,
  change: PendingChange,
  now: number,
  mayGoOn: () => boolean,
): Promise<Binding | undefined> {
  const { removed, then } = withoutExpired(change, now) ?? change;
  for (const owner of removed === 'any' ? [undefined] : removed) {
    if (mayGoOn()) await store.delete(key, owner);
  }
  if (!mayGoOn() || then.kind === 'nothing') return undefined;
  if (then.kind === 'bind') {
    return store.upsert({ ...then.binding, ttlMs: then.binding.expiresAt - now });
  }
  const leftMs = then.expiresAt - now;
  await (then.kind === 'touch' ? store.touch(key, leftMs) : store.expireWithin(key, leftMs));
  return undefined;
}

/** `found`: the binding that it replaces. Alone: a binding that the store may have lost. */
export function changeToBinding(
  binding: Binding,
  found?: Binding,
  before?: PendingChange,
): PendingChange {
  const former = before?.then.kind === 'bind' ? before.then.owners : [];
  const owners = union(former, found ? [found.machine, binding.machine] : [binding.machine]);
  return {
    removed: before?.removed ?? [],
    then: { kind: 'bind', binding, owners },
    isCertain: true,
    until: Math.max(before?.until ?? 0, found?.expiresAt ?? 0, binding.expiresAt),
  };
}

/** Alone: the removal of a binding that the store may still hold. */
export function changeToRemoval(found: Binding, before?: PendingChange): PendingChange {
  const former = before?.then.kind === 'bind' ? before.then.owners : [];
  return {
    removed: withRemoved(before, [...former, found.machine]),
    then: NOTHING,
    isCertain: true,
    until: Math.max(before?.until ?? 0, found.expiresAt),
  };
}

/**
 * A binding that has expired here may be alive in the store, which does not know its early expiry.
 */
function withoutExpired(change: PendingChange | undefined, now: number): PendingChange | undefined {
  if (change?.then.kind !== 'bind' || change.then.binding.expiresAt > now) return change;
  return changeToRemoval(change.then.binding, change);
}

/** The position of its origin in {@link EVICTION_ORDER}. */
export function worthOf({ then }: PendingChange): number {
  return EVICTION_ORDER.indexOf(then.kind === 'bind' ? then.binding.origin : 'adopted');
}

function slideOfUnknown(
  { kind, now, ttlMs }: Extract<Write, { kind: 'touch' | 'expireWithin' }>,
  before: PendingChange | undefined,
  until: number,
): PendingChange {
  const expiresAt = now + wholeTtlMs(ttlMs);
  return {
    removed: before?.removed ?? [],
    then: { kind: kind === 'touch' ? 'touch' : 'expire', expiresAt },
    isCertain: false,
    until: Math.max(until, expiresAt),
  };
}

function removalOfUnknown(
  ifMachine: MachineId | undefined,
  before: PendingChange | undefined,
  until: number,
): PendingChange {
  const removed = ifMachine === undefined ? 'any' : withRemoved(before, [ifMachine]);
  return { removed, then: NOTHING, isCertain: removed === 'any', until };
}

function withRemoved(
  before: PendingChange | undefined,
  machines: readonly MachineId[],
): PendingChange['removed'] {
  return before?.removed === 'any' ? 'any' : union(before?.removed ?? [], machines);
}

function union(some: readonly MachineId[], more: readonly MachineId[]): readonly MachineId[] {
  return [...new Set([...some, ...more])];
}
