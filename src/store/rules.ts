/**
 * What each write does to one binding: a pure function, so that the memory store, the SQLite writer
 * thread and the view of pending writes can't disagree.
 *
 * Applying one write twice leaves what applying it once leaves. The SQLite store relies on that: it
 * may apply a write that is already committed but not yet acknowledged.
 */
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../session.ts';
import type { PeerCopy } from './store.ts';

/** A write as it was called, with the moment of the call in whole ms. */
export type Write = { readonly key: SessionKey; readonly now: number } & (
  | {
      readonly kind: 'claim';
      readonly machine: MachineId;
      readonly origin: BindingOrigin;
      readonly ttlMs: number;
    }
  | {
      readonly kind: 'upsert';
      readonly machine: MachineId;
      readonly origin: BindingOrigin;
      readonly generation: number;
      readonly createdAt: number | undefined;
      readonly ttlMs: number;
    }
  | {
      readonly kind: 'rebind';
      readonly from: MachineId;
      readonly to: MachineId;
      readonly origin: BindingOrigin;
      readonly ttlMs: number;
    }
  | { readonly kind: 'touch'; readonly ttlMs: number }
  | { readonly kind: 'expireWithin'; readonly ttlMs: number }
  | { readonly kind: 'delete'; readonly ifMachine: MachineId | undefined }
);

export type WriteKind = Write['kind'];
type Of<Kind extends WriteKind> = Extract<Write, { kind: Kind }>;
type Sliding = Pick<Of<'touch'>, 'now' | 'ttlMs'>;

/** The result of a write. */
export interface Outcome {
  /** The current binding; the same object as before if nothing changed. */
  readonly after: Binding | undefined;
  /** Whether the write took effect: the claim won, the key was moved, touched, removed. */
  readonly hasTakenEffect: boolean;
}

/** Above it a time to live is a mistake, and adding it to a time is not exact. */
const MAX_TTL_MS = 10 * 365 * 24 * 3600 * 1000;

/** Weakest first: the stronger origin says more about the owner, and is evicted later. */
const ORIGIN_RANKS: Record<BindingOrigin, number> = { copied: 0, adopted: 1, learned: 2 };

/** An expired binding is absent to every write. `maxAgeMs` of 0 is no bound. */
export function applyWrite(write: Write, found: Binding | undefined, maxAgeMs: number): Outcome {
  const current = found && found.expiresAt > write.now ? found : undefined;
  switch (write.kind) {
    case 'claim':
      return claim(write, current, maxAgeMs);
    case 'upsert':
      return upsert(write, current, maxAgeMs);
    case 'rebind':
      return rebind(write, current, maxAgeMs);
    case 'touch':
      return touch(write, current, maxAgeMs);
    case 'expireWithin':
      return expireWithin(write, current);
    case 'delete':
      return remove(write, current);
  }
}

/** What is bound after all these writes of one key, in their order. */
export function applyWrites(
  writes: readonly Write[],
  found: Binding | undefined,
  maxAgeMs: number,
): Binding | undefined {
  return writes.reduce((binding, write) => applyWrite(write, binding, maxAgeMs).after, found);
}

function claim(write: Of<'claim'>, current: Binding | undefined, maxAgeMs: number): Outcome {
  if (current === undefined) {
    return { after: newBinding(write, 1, write.now, maxAgeMs), hasTakenEffect: true };
  }
  if (current.machine !== write.machine) return { after: current, hasTakenEffect: false };
  const origin = strongerOrigin(current.origin, write.origin);
  return { after: slide({ ...current, origin }, write, maxAgeMs), hasTakenEffect: true };
}

/**
 * A session keeps its age under a new owner: without `createdAt` it would outlive its maximum age.
 */
function upsert(write: Of<'upsert'>, current: Binding | undefined, maxAgeMs: number): Outcome {
  if (current === undefined) {
    const createdAt = Math.min(write.createdAt ?? write.now, write.now);
    return {
      after: newBinding(write, write.generation, createdAt, maxAgeMs),
      hasTakenEffect: true,
    };
  }
  const { key, machine, generation } = write;
  const isSameOwner = current.machine === machine;
  const isOutdated =
    current.generation > generation ||
    (current.generation === generation && !isSameOwner && current.origin !== 'copied');
  if (isOutdated) return { after: current, hasTakenEffect: false };
  const origin = isSameOwner ? strongerOrigin(current.origin, write.origin) : write.origin;
  const { createdAt } = current;
  const expiresAt = withinMaxAge(slidTo(write), createdAt, maxAgeMs);
  return {
    after: { key, machine, origin, generation, createdAt, expiresAt },
    hasTakenEffect: true,
  };
}

/** What is bound after a peer's copy has entered; undefined if it changes nothing. */
export function applyCopy(
  copy: PeerCopy,
  now: number,
  found: Binding | undefined,
  maxAgeMs: number,
): Binding | undefined {
  const current = found && found.expiresAt > now ? found : undefined;
  const { isFromOwner, ...stated } = copy;
  const isNewer =
    isFromOwner && current?.origin === 'copied' && current.generation < copy.generation;
  if (current && !isNewer) return undefined;
  const after = upsert(
    { ...stated, kind: 'upsert', now, origin: 'copied' },
    current,
    maxAgeMs,
  ).after;
  return after && after.expiresAt > now ? after : undefined;
}

function rebind(write: Of<'rebind'>, current: Binding | undefined, maxAgeMs: number): Outcome {
  if (current?.machine !== write.from) return { after: current, hasTakenEffect: false };
  if (write.from === write.to) {
    return { after: slide(current, write, maxAgeMs), hasTakenEffect: true };
  }
  const { key, createdAt } = current;
  const expiresAt = withinMaxAge(slidTo(write), createdAt, maxAgeMs);
  const generation = current.generation + 1;
  return {
    after: { key, machine: write.to, origin: write.origin, generation, createdAt, expiresAt },
    hasTakenEffect: true,
  };
}

function touch(write: Of<'touch'>, current: Binding | undefined, maxAgeMs: number): Outcome {
  if (current === undefined) return { after: undefined, hasTakenEffect: false };
  return { after: slide(current, write, maxAgeMs), hasTakenEffect: true };
}

function expireWithin(write: Of<'expireWithin'>, current: Binding | undefined): Outcome {
  if (current === undefined) return { after: undefined, hasTakenEffect: false };
  const expiresAt = slidTo(write);
  if (expiresAt >= current.expiresAt) return { after: current, hasTakenEffect: true };
  return { after: { ...current, expiresAt }, hasTakenEffect: true };
}

function remove(write: Of<'delete'>, current: Binding | undefined): Outcome {
  if (current === undefined) return { after: undefined, hasTakenEffect: false };
  const isOthers = write.ifMachine !== undefined && write.ifMachine !== current.machine;
  return isOthers
    ? { after: current, hasTakenEffect: false }
    : { after: undefined, hasTakenEffect: true };
}

function newBinding(
  write: Of<'claim'> | Of<'upsert'>,
  generation: number,
  createdAt: number,
  maxAgeMs: number,
): Binding {
  const { key, machine, origin } = write;
  const expiresAt = withinMaxAge(slidTo(write), createdAt, maxAgeMs);
  return { key, machine, origin, generation, createdAt, expiresAt };
}

/** Never shortens the life, unless the maximum age was lowered since the binding was made. */
function slide(binding: Binding, write: Sliding, maxAgeMs: number): Binding {
  const later = Math.max(binding.expiresAt, slidTo(write));
  return { ...binding, expiresAt: withinMaxAge(later, binding.createdAt, maxAgeMs) };
}

function slidTo({ now, ttlMs }: Sliding): number {
  return now + wholeTtlMs(ttlMs);
}

/** Rounds to whole ms: a fraction from a peer must not make a row that can't be written. */
export function wholeTtlMs(ttlMs: number): number {
  return ttlMs > 0 ? Math.min(Math.floor(ttlMs), MAX_TTL_MS) : 0;
}

function withinMaxAge(expiresAt: number, createdAt: number, maxAgeMs: number): number {
  return maxAgeMs > 0 ? Math.min(expiresAt, createdAt + maxAgeMs) : expiresAt;
}

function strongerOrigin(one: BindingOrigin, other: BindingOrigin): BindingOrigin {
  return ORIGIN_RANKS[one] >= ORIGIN_RANKS[other] ? one : other;
}
