/**
 * Resolves conflicts between what peers claim and what this Machine owns:
 *
 *     peer claims K ─ we own K ─ ours outranks ──────────> kept: responds with our claim
 *                   │          └ theirs outranks ────────> released: stores a copy
 *                   ├ K is in flight here, not yet claimed ─> released: stores a copy
 *                   └ neither ───────────────────────────> copy stored, unless a known claim outranks it
 *
 * The operations of one key run in order: each decision sees what the one before it has written.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import { type Claim, type KeyResponse, MAX_TTL_MS } from './messages.ts';
import { RecentMap } from './recent-map.ts';
import { rendezvousRank } from './rendezvous.ts';

export interface ClaimResolverOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly clock: Clock;
  /**
   * Whether the store holds what this Machine owns. False while it starts and while it is degraded, but
   * not while it drains: its sessions are still its own.
   */
  readonly isReady: () => boolean;
  /** The claim, marked as pending, that this Machine makes once its app accepts the request in flight. */
  readonly pendingClaimOf?: (key: SessionKey) => Claim | undefined;
  /** Whether a binding of ours no longer counts, as the app process that it belonged to has ended. */
  readonly isVoid?: (binding: Binding) => boolean;
  /**
   * Another Machine has announced a session that we keep. It has announced it to all, perhaps after we did, so
   * others may have stored its claim: they need to hear of ours again. Once per claimant in ten seconds.
   */
  readonly onContested?: (binding: Binding, ttlMs: number) => void;
  /** Another Machine claims a session that we own: this Machine has kept or released it. */
  readonly onConflict?: (outcome: 'kept' | 'released') => void;
  /** Another Machine now owns a session of this one. Called once, after that is stored. */
  readonly onReleased?: (key: SessionKey, winner: MachineId) => void;
  /** The store failed, so the response is `unknown`. */
  readonly onError?: (error: unknown) => void;
}

export interface ClaimResolver {
  /** Our response to a peer that queries the key and may claim it. Never rejects. */
  onQuery(key: SessionKey, from: MachineId, claim: Claim | undefined): Promise<KeyResponse>;
  /**
   * Stores a peer's claim. Resolves to our claim if we keep the key, or have released it within ten seconds: the peer
   * compares the two as well. Resolves to `unknown` if the store can't tell now: the peer then repeats the
   * announcement. Never rejects.
   */
  onAnnouncement(key: SessionKey, from: MachineId, claim: Claim): Promise<AnnouncementResponse>;
  /** Resolves when nothing is in flight. */
  idle(): Promise<void>;
}

type AnnouncementResponse = Claim | 'unknown' | undefined;

export function createClaimResolver(options: ClaimResolverOptions): ClaimResolver {
  return new StoreClaimResolver(options);
}

/**
 * A copy in the store has no origin. So claims of peers are remembered for longer than an announcement
 * can be delayed: a claim that arrives late is compared with the one that is copied. A session that
 * ends may begin on another Machine after it.
 */
const RECENT_CLAIMS = { ttlMs: 10_000, maxEntries: 4_096 };

class StoreClaimResolver implements ClaimResolver {
  readonly #options: ClaimResolverOptions;
  readonly #recentClaims: RecentMap<SessionKey, Claimant>;
  /** Our own that others have outranked. */
  readonly #releasedClaims: RecentMap<SessionKey, Claim>;
  /** The last work of each key that is in flight. */
  readonly #inFlight = new Map<SessionKey, Promise<unknown>>();

  constructor(options: ClaimResolverOptions) {
    this.#options = options;
    const { clock } = options;
    this.#recentClaims = new RecentMap({ ...RECENT_CLAIMS, clock });
    this.#releasedClaims = new RecentMap({ ...RECENT_CLAIMS, clock });
  }

  onQuery(key: SessionKey, from: MachineId, claim: Claim | undefined): Promise<KeyResponse> {
    if (!this.#options.isReady()) return Promise.resolve('unknown');
    return this.#inOrder<KeyResponse>(key, (found) => {
      const ours = this.#ownClaim(key, found);
      if (!ours) return found === 'unknown' ? 'unknown' : 'no';
      if (!claim) return ours;
      return this.#keeps(key, ours, { ...claim, machine: from }).then((keeps) =>
        keeps ? ours : 'no',
      );
    });
  }

  onAnnouncement(key: SessionKey, from: MachineId, claim: Claim): Promise<AnnouncementResponse> {
    const theirs = { ...claim, machine: from };
    return this.#inOrder<AnnouncementResponse>(key, (found) => {
      if (found === 'unknown') return 'unknown';
      const ours = this.#ownClaim(key, found);
      if (ours)
        return this.#keeps(key, ours, theirs).then((keeps) => {
          if (!keeps) return this.#releasedClaim(key, theirs);
          if (typeof found === 'object') this.#onContested(found, theirs);
          return ours;
        });
      // A void binding of ours.
      if (this.#isOurs(found)) return this.#release(key, this.#options.self, theirs);
      return this.#copy(key, found, theirs).then(() => this.#releasedClaim(key, theirs));
    });
  }

  async idle(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight.values());
  }

  /** Begins at once if nothing of the key is in flight. */
  #inOrder<Result>(
    key: SessionKey,
    decide: (found: Lookup) => Result | Promise<Result>,
  ): Promise<Result | 'unknown'> {
    const work = (): Promise<Result | 'unknown'> => this.#lookUp(key, decide);
    const ended = this.#inFlight.get(key)?.then(work) ?? work();
    this.#inFlight.set(key, ended);
    void ended.then(() => {
      if (this.#inFlight.get(key) === ended) this.#inFlight.delete(key);
    });
    return ended;
  }

  /** Never rejects. A synchronous lookup is decided on in the same turn: nothing is written between. */
  async #lookUp<Result>(
    key: SessionKey,
    decide: (found: Lookup) => Result | Promise<Result>,
  ): Promise<Result | 'unknown'> {
    try {
      const found = this.#options.store.lookup(key);
      return await decide(found instanceof Promise ? await found : found);
    } catch (error) {
      this.#options.onError?.(error);
      return 'unknown';
    }
  }

  #ownClaim(key: SessionKey, found: Lookup): Claim | undefined {
    const { clock, pendingClaimOf, isVoid } = this.#options;
    if (found === 'absent') return pendingClaimOf?.(key);
    if (!this.#isOurs(found) || isVoid?.(found)) return undefined;
    return claimOf(found, found.expiresAt - clock.now());
  }

  #isOurs(found: Lookup): found is Binding {
    return typeof found === 'object' && found.machine === this.#options.self;
  }

  /** Whether we keep the key; else stores theirs. */
  async #keeps(key: SessionKey, ours: Claim, theirs: Claimant): Promise<boolean> {
    const { self, store, onConflict, onReleased } = this.#options;
    if (outranks(key, { ...ours, machine: self }, theirs)) {
      onConflict?.('kept');
      return true;
    }
    this.#recentClaims.set(key, theirs);
    // Of a pending claim the store has nothing.
    if (ours.isPending) await storeCopy(store, key, theirs);
    else await releaseTo(store, self, key, theirs);
    onConflict?.('released');
    if (ours.isPending) return false;
    this.#releasedClaims.set(key, ours);
    onReleased?.(key, theirs.machine);
    return false;
  }

  /** The claim of ours that theirs has outranked: we may have announced it to others after they heard of theirs. */
  #releasedClaim(key: SessionKey, theirs: Claimant): Claim | undefined {
    const ours = this.#releasedClaims.get(key);
    const isOutranked = ours && outranks(key, theirs, { ...ours, machine: this.#options.self });
    return isOutranked ? ours : undefined;
  }

  #onContested(binding: Binding, theirs: Claimant): void {
    const { clock, onContested } = this.#options;
    if (this.#recentClaims.get(binding.key)?.machine === theirs.machine) return;
    this.#recentClaims.set(binding.key, theirs);
    onContested?.(binding, binding.expiresAt - clock.now());
  }

  async #copy(key: SessionKey, found: Lookup, theirs: Claimant): Promise<undefined> {
    const isCopyOfOther =
      typeof found === 'object' && found.origin === 'copied' && found.machine !== theirs.machine;
    if (isCopyOfOther) {
      if (!this.#isOutrankedByCopy(key, found, theirs))
        await this.#release(key, found.machine, theirs);
      return;
    }
    this.#recentClaims.set(key, theirs);
    await storeCopy(this.#options.store, key, theirs);
  }

  /** The later claim counts, unless the copied one is known to outrank it. */
  #isOutrankedByCopy(key: SessionKey, copy: Binding, theirs: Claimant): boolean {
    if (copy.generation > theirs.generation) return true;
    const claimed = this.#recentClaims.get(key);
    if (claimed?.machine !== copy.machine || claimed.generation !== copy.generation) return false;
    return outranks(key, claimed, theirs);
  }

  async #release(key: SessionKey, loser: MachineId, theirs: Claimant): Promise<undefined> {
    this.#recentClaims.set(key, theirs);
    await releaseTo(this.#options.store, loser, key, theirs);
  }
}

/* Claims of Machines to a session key: which of two wins, and what the loser stores. */

export type Claimant = Claim & { readonly machine: MachineId };

/** The claim of a Machine to a binding of its own, with the time to live left. */
export function claimOf({ generation, origin, createdAt }: Binding, ttlMs: number): Claim {
  return {
    generation,
    origin: origin === 'learned' ? 'learned' : 'adopted',
    createdAt,
    ttlMs: Math.min(Math.max(Math.ceil(ttlMs), 1), MAX_TTL_MS),
  };
}

/** Clocks lag after a suspend: two claims count as simultaneous within the same ten seconds. */
export const SIMULTANEOUS_MS = 10_000;

/**
 * Whether `one` keeps the key against `other` (invariant 13). Every Machine computes it from the same
 * claims, so all come to the same result without a message. It is a strict total order, so the order in
 * which claims arrive does not matter. An accepted claim wins over a pending one: a request alone, which
 * anyone may send, takes no session from anybody (invariant 2). Then, in this order:
 *
 * 1. The higher generation: a rebinding follows evidence that the older owner is gone.
 * 2. `learned` before `adopted`. The app that minted the id has the session; the other app only
 *    accepted the id. With a forged hint a client can bring about an adopted binding on a Machine of its
 *    choice, and must not take the session away with it (invariant 4), whatever the clocks say.
 * 3. The earlier binding, by whole ten seconds. The numbers of the periods are compared, not the
 *    difference: "less than ten seconds apart" is not transitive.
 * 4. The higher rendezvous rank: the Machine where placement puts the key anyway.
 * 5. The smaller Machine id.
 */
export function outranks(key: SessionKey, one: Claimant, other: Claimant): boolean {
  if (one.isPending !== other.isPending) return other.isPending === true;
  if (one.generation !== other.generation) return one.generation > other.generation;
  if (one.origin !== other.origin) return one.origin === 'learned';
  const [period, otherPeriod] = [periodOf(one), periodOf(other)];
  if (period !== otherPeriod) return period < otherPeriod;
  const rank = rendezvousRank(key, one.machine);
  const otherRank = rendezvousRank(key, other.machine);
  if (rank !== otherRank) return rank > otherRank;
  return one.machine < other.machine;
}

function periodOf({ createdAt }: Claimant): number {
  return Math.floor(createdAt / SIMULTANEOUS_MS);
}

/**
 * Releases a key to the Machine that keeps it: removes the binding of `loser` and stores a copy of the
 * winner's with its generation, age and time left. Rejects with the store's error; the binding of the
 * loser may then still be there.
 */
async function releaseTo(
  store: Pick<SessionStore, 'delete' | 'upsert'>,
  loser: MachineId,
  key: SessionKey,
  winner: Claimant,
): Promise<void> {
  // Both in one turn, so that no lookup between them finds the key free to be claimed.
  await Promise.all([store.delete(key, loser), storeCopy(store, key, winner)]);
}

/** Stores the claim of another Machine. */
async function storeCopy(
  store: Pick<SessionStore, 'upsert'>,
  key: SessionKey,
  { machine, generation, createdAt, ttlMs }: Claimant,
): Promise<void> {
  await store.upsert({ key, machine, origin: 'copied', generation, createdAt, ttlMs });
}
