/** The port behind which every session store stands, its contract in prose, and its errors. */
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../session.ts';

/** `absent`: the store knows that nobody owns the key. `unknown`: it can't tell now (busy, failed). */
export type Lookup = Binding | 'absent' | 'unknown';

export interface NewBinding {
  readonly key: SessionKey;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  /** Sliding time to live in ms, bounded by the store's maximum age. */
  readonly ttlMs: number;
}

/** A binding as it stands elsewhere, with another Machine or in another store: its generation is kept. */
export interface StatedBinding extends NewBinding {
  readonly generation: number;
  /** In ms since the epoch: a binding that is moved keeps its age. Now, unless given, and never later. */
  readonly createdAt?: number;
}

/** Which bindings, by their owners. */
export type Owners = { readonly only: MachineId } | { readonly except: readonly MachineId[] };

/**
 * Bindings for a peer as one text, made where they are stored and passed on unread: an object for
 * each of a million costs more than everything else about them.
 */
export interface PeerPage {
  /** Members of a JSON list, {@link ROW_FIELDS} for each binding: see `peer-pages.ts`. */
  readonly rows: string;
  /** Whom the numbers in the rows stand for; those of another page mean nothing here. */
  readonly owners: ReadonlyMap<number, MachineId>;
}

/** What a peer has told of a binding at a join: it enters as `copied`, and only where that takes nothing away. */
export interface PeerCopy {
  readonly key: SessionKey;
  readonly machine: MachineId;
  readonly generation: number;
  /** In ms since the epoch. */
  readonly createdAt: number;
  readonly ttlMs: number;
  /** Whether the owner itself has told it. Then it replaces a copy of a lower generation, else nothing. */
  readonly isFromOwner: boolean;
}

/** What the store has done since it was opened, and what it holds. */
export interface StoreMetrics {
  /** Bindings held, expired ones that were not cleaned up yet included. */
  readonly total: number;
  /** Of these, how many have expired. */
  readonly expired: number;
  readonly lookups: number;
  /** Bindings written: claims that won, upserts, rebinds. */
  readonly upserts: number;
  readonly deletes: number;
  readonly errors: number;
  /** ms since the epoch; undefined before the first. */
  readonly lastCleanupAt: number | undefined;
  /** Database and write-ahead log in bytes; 0 where nothing is on disk. */
  readonly sizeBytes: number;
}

/**
 * Who owns which session.
 *
 * Every method takes durations in ms and tells time by the clock it was made with. An expired
 * binding is absent to every method, whether or not it was cleaned up. The promise of a write
 * resolves once the write is committed (what that survives is each adapter's promise), and writes
 * take effect in the order of their calls. A lookup sees the writes called before it, committed or
 * not. Failures reject with a {@link StoreError}, except in `lookup`, which answers `unknown`.
 * After `close` every method but `close` rejects, and `lookup` answers `unknown`.
 */
export interface SessionStore {
  readonly kind: 'memory' | 'sqlite' | 'redis' | 'postgres';
  /** Whether the Machines of a fleet share one store of this kind; then nobody needs to ask a peer. */
  readonly isShared: boolean;
  /** Who owns the key. Synchronous where the adapter can answer without waiting; never rejects. */
  lookup(key: SessionKey): Lookup | Promise<Lookup>;
  /**
   * Binds the key if nobody owns it, and returns who owns it now: the caller, or the earlier owner.
   * A repeated claim by the owner itself is a touch, and the stronger of the two origins stays:
   * learned before adopted before copied.
   */
  claim(binding: NewBinding): Promise<Binding>;
  /**
   * Writes what a Machine states of itself. A binding of a higher generation that is already there
   * stays, as does an equal one of another owner that is not `copied`. Returns what is there now.
   */
  upsert(binding: StatedBinding): Promise<Binding>;
  /**
   * Compare-and-set: moves the key from one Machine to another and raises the generation.
   * Returns what is there now, or `undefined` if the key is absent; the caller compares the owner.
   */
  rebind(
    key: SessionKey,
    from: MachineId,
    to: MachineId,
    origin: BindingOrigin,
    ttlMs: number,
  ): Promise<Binding | undefined>;
  /** Slides the expiry to `ttlMs` from now, never shortens it, never past the maximum age. False if absent. */
  touch(key: SessionKey, ttlMs: number): Promise<boolean>;
  /** Sets the expiry to `ttlMs` from now, if that is earlier. False if absent. */
  expireWithin(key: SessionKey, ttlMs: number): Promise<boolean>;
  /** Removes the binding; with `ifMachine`, only if that Machine owns it. Returns whether one was removed. */
  delete(key: SessionKey, ifMachine?: MachineId): Promise<boolean>;
  /** Removes what has expired and what exceeds the maximum number of sessions; returns how many. */
  cleanup(): Promise<number>;
  /** Everything that has not expired, in no promised order. */
  entries(): AsyncIterable<Binding>;
  /**
   * Bindings of these owners that have not expired, in pages of {@link PAGE_BINDINGS} at most, some
   * of them empty: each page costs little, however few bindings match. For the peers of a Machine
   * that joins; a store without it, as those that a fleet shares, has nothing to tell them.
   */
  pages?(owners: Owners): AsyncIterable<PeerPage>;
  /**
   * Writes copies where nothing is bound. They enter cold: no cache takes them in, and what is in
   * use keeps its place. The caller sees to the room. Returns how many were written.
   */
  addCopies?(copies: readonly PeerCopy[]): Promise<number>;
  getMetrics(): Promise<StoreMetrics>;
  /** Finishes the writes under way and frees everything. The second call waits for the first. */
  close(): Promise<void>;
}

/** Bindings in one of the pages of a store. */
export const PAGE_BINDINGS = 1_000;
/** Of one binding in a page's rows. */
export const ROW_FIELDS = 5;

/** What is measured, as a label: closed, so that a metric has no other values. */
export const STORE_OPERATIONS = [
  'lookup',
  'claim',
  'upsert',
  'rebind',
  'touch',
  'expireWithin',
  'delete',
  'cleanup',
] as const;
export type StoreOperation = (typeof STORE_OPERATIONS)[number];

/** Told of every operation that left the process: a read served from the hot cache is none. */
export type OnStoreOperation = (
  operation: StoreOperation,
  outcome: 'ok' | 'error',
  ms: number,
) => void;

/** What a store is told about its limits, whatever the adapter. */
export interface StoreLimits {
  /**
   * Bindings held at most, exact after a `cleanup` and kept within a few percent by the writes
   * themselves. Beyond it they go in {@link EVICTION_ORDER}, of one origin the least recently used
   * first: told by the last write or by the expiry, which sliding keeps in the same order.
   */
  readonly maxSessions: number;
  /** Whole life of a binding in ms, however often it slides; 0 for no bound. */
  readonly maxAgeMs: number;
}

/** A store on this Machine, whose lookups need no waiting. */
export interface LocalStore extends SessionStore {
  lookup(key: SessionKey): Lookup;
}

/** Copies come back by asking, adopted ids cost a client nothing to invent, learned ones are the app's own. */
export const EVICTION_ORDER = ['copied', 'adopted', 'learned'] as const;

/** What clients bring along fills half of a store at most. */
export function adoptedCap(maxSessions: number): number {
  return Math.max(1, Math.floor(maxSessions / 2));
}

/**
 * `passing`: trying again may help (busy, connection lost). `full`: no room. `damaged`: what is
 * there is lost, and opening the store anew mends it. `fatal`: somebody has to mend it (newer schema,
 * no permission). `closed`: the store was closed.
 */
export type StoreErrorCode = 'passing' | 'full' | 'damaged' | 'fatal' | 'closed';

export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
