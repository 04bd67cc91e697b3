/** The port of every session store: its contract in prose, and its errors. */
import type { Binding, BindingOrigin, MachineId, SessionKey } from '../session.ts';

/**
 * `absent`: the store knows that the key has no owner. `unknown`: the store can't say (busy,
 * failed).
 */
export type Lookup = Binding | 'absent' | 'unknown';

export interface NewBinding {
  readonly key: SessionKey;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  /** Sliding time to live in ms, bounded by the store's maximum age. */
  readonly ttlMs: number;
}

/** A binding as it is on another Machine or in another store: its generation is kept. */
export interface StatedBinding extends NewBinding {
  readonly generation: number;
  /** In ms since the epoch: a binding that moves keeps its age. Default: now; never later. */
  readonly createdAt?: number;
}

/** Selects bindings by their owners. */
export type Owners = { readonly only: MachineId } | { readonly except: readonly MachineId[] };

/**
 * Bindings for a peer as one text, made where they are stored and passed on unparsed: an object for
 * each of a million bindings costs more than everything else about them.
 */
export interface PeerPage {
  /** Members of a JSON list, {@link ROW_FIELDS} for each binding: see `peer-pages.ts`. */
  readonly rows: string;
  /** The Machines that the numbers in the rows mean; the numbers are valid in this page only. */
  readonly owners: ReadonlyMap<number, MachineId>;
}

/**
 * A binding that a peer reports at a join: it enters as `copied`, and only where it replaces
 * nothing better.
 */
export interface PeerCopy {
  readonly key: SessionKey;
  readonly machine: MachineId;
  readonly generation: number;
  /** In ms since the epoch. */
  readonly createdAt: number;
  readonly ttlMs: number;
  /**
   * Whether the owner itself reported it. Then it replaces a copy of a lower generation, else
   * nothing.
   */
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
 * Every method takes durations in ms and uses the clock it was created with. An expired binding is
 * absent to every method, whether or not it was cleaned up. The promise of a write resolves once
 * the write is committed (each adapter says what a commit survives), and writes take effect in the
 * order of their calls. A lookup sees the writes called before it, committed or not. Failures
 * reject with a {@link StoreError}, except in `lookup`, which resolves to `unknown`. After `close`
 * every method but `close` rejects, and `lookup` resolves to `unknown`.
 */
export interface SessionStore {
  readonly kind: 'memory' | 'sqlite' | 'redis' | 'postgres';
  /** Whether the Machines of a fleet share one store of this kind; then peers need not be asked. */
  readonly isShared: boolean;
  /** Who owns the key. Synchronous where the adapter need not wait; never rejects. */
  lookup(key: SessionKey): Lookup | Promise<Lookup>;
  /**
   * Binds the key if it has no owner, and returns the current owner: the caller, or the earlier
   * owner. A repeated claim by the owner itself is a touch, and the stronger of the two origins
   * stays: learned before adopted before copied.
   */
  claim(binding: NewBinding): Promise<Binding>;
  /**
   * Writes what a Machine reports about itself. An existing binding of a higher generation stays,
   * as does one of the same generation and another owner that is not `copied`. Returns the current
   * binding.
   */
  upsert(binding: StatedBinding): Promise<Binding>;
  /**
   * Compare-and-set: moves the key from one Machine to another and raises the generation. Returns
   * the current binding, or `undefined` if the key is absent; the caller compares the owner.
   */
  rebind(
    key: SessionKey,
    from: MachineId,
    to: MachineId,
    origin: BindingOrigin,
    ttlMs: number,
  ): Promise<Binding | undefined>;
  /**
   * Extends the expiry to `ttlMs` from now ("slides" it): never shortens it, never exceeds the
   * maximum age. False if absent.
   */
  touch(key: SessionKey, ttlMs: number): Promise<boolean>;
  /** Sets the expiry to `ttlMs` from now, if that is earlier. False if absent. */
  expireWithin(key: SessionKey, ttlMs: number): Promise<boolean>;
  /** Removes the binding; with `ifMachine`, only if that Machine owns it. Returns whether one was removed. */
  delete(key: SessionKey, ifMachine?: MachineId): Promise<boolean>;
  /** Removes what has expired and what exceeds the maximum number of sessions; returns how many. */
  cleanup(): Promise<number>;
  /**
   * Replaces connections to a server that may be dead: this Machine was suspended. Returns at once; what is in
   * flight fails.
   */
  reconnect?(): void;
  /** All bindings that have not expired, in no particular order. */
  entries(): AsyncIterable<Binding>;
  /**
   * Bindings of these owners that have not expired, in pages of {@link PAGE_BINDINGS} at most, some
   * of them empty: each page costs little, however few bindings match. For the peers of a Machine
   * that joins; a store without this method, as a shared one, has nothing for them.
   */
  pages?(owners: Owners): AsyncIterable<PeerPage>;
  /**
   * Writes copies where nothing is bound. They enter cold: caches ignore them, and bindings in use
   * keep their place. The caller makes sure that there is room. Returns how many were written.
   */
  addCopies?(copies: readonly PeerCopy[]): Promise<number>;
  getMetrics(): Promise<StoreMetrics>;
  /** Finishes the writes in flight and frees everything. A second call waits for the first. */
  close(): Promise<void>;
}

/** The maximum number of bindings in a page. */
export const PAGE_BINDINGS = 1_000;
/** The fields of one binding in a page's rows. */
export const ROW_FIELDS = 5;

/** The measured operations, as a closed set of labels. */
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

/** Called for every operation that leaves the process: a read from the cache is none. */
export type OnStoreOperation = (
  operation: StoreOperation,
  outcome: 'ok' | 'error',
  ms: number,
) => void;

/** The limits of a store, for every adapter. */
export interface StoreLimits {
  /**
   * The maximum number of bindings: exact after a `cleanup`, and within a few percent after writes.
   * Above it bindings are evicted in {@link EVICTION_ORDER}, and within one origin the least
   * recently used first: by the last write or by the expiry, which sliding keeps in the same order.
   */
  readonly maxSessions: number;
  /** The maximum age of a binding in ms, however often it slides; 0 for no bound. */
  readonly maxAgeMs: number;
}

/** A store on this Machine, whose lookups are synchronous. */
export interface LocalStore extends SessionStore {
  lookup(key: SessionKey): Lookup;
}

/**
 * A copy can be read from its owner again, an adopted id costs a client nothing to invent, a
 * learned id is the app's own.
 */
export const EVICTION_ORDER = ['copied', 'adopted', 'learned'] as const;

/** The ids that clients bring fill half of a store at most. */
export function adoptedCap(maxSessions: number): number {
  return Math.max(1, Math.floor(maxSessions / 2));
}

/**
 * `passing`: trying again may help (busy, connection lost). `full`: no room. `damaged`: the content
 * is lost, and opening the store again repairs it. `fatal`: an operator must act (newer schema, no
 * permission). `closed`: the store was closed.
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

/* The status of a store, for the readiness response, the metrics and the log. */

/** What an operator should know about a store. */
export interface StoreHealth {
  /** `recovering`: the store works again, and pending changes are being flushed to it. */
  readonly state: 'healthy' | 'degraded' | 'recovering';
  /** What does not work; `all` if there is no store. */
  readonly failing: 'none' | 'reads' | 'writes' | 'all';
  /** The last failure while something fails. */
  readonly code: StoreErrorCode | undefined;
  readonly reason: string | undefined;
  /** How long it has not been healthy, in ms. */
  readonly forMs: number;
  readonly writeBack: {
    readonly depth: number;
    /** Of the oldest one, in ms. */
    readonly ageMs: number;
    /** Whether it outlives a restart. */
    readonly isDurable: boolean;
  };
}

/** The outcome of a change that was accepted while its store failed: a closed set, for labels. */
export const WRITE_BACK_RESULTS = ['written', 'conflict', 'dropped'] as const;
/**
 * `conflict`: another Machine has bound the key meanwhile, and keeps it. `dropped`: too many were
 * waiting.
 */
export type WriteBackResult = (typeof WRITE_BACK_RESULTS)[number];
