/** The writes of the request path to the store: binds, extends, moves and ends sessions of this Machine. */
import {
  type Binding,
  type BindingOrigin,
  type MachineId,
  type SessionId,
  type SessionKey,
  sessionKeyOf,
} from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claim } from '../fleet/messages.ts';
import type { Peers } from '../fleet/peers.ts';
import type { EndReason, Metrics } from '../observability/metrics.ts';
import type { SessionStore } from '../store/store.ts';
import { BackgroundWrites, type StoreFailure } from './background-writes.ts';
import { StreamedSessions } from './streamed-sessions.ts';
import type { Release } from './open-streams.ts';

/** How long a session outlives the stream that revealed its id, in ms: the client may be reconnecting. */
export const STREAM_GRACE_MS = 60_000;
/** A binding is written again when this part of its time to live has passed; a key-dependent twentieth is added. */
const TOUCH_AFTER = 0.1;
const TOUCH_JITTER = 0.05;

/** `protocol`: the name of the session's protocol, for the metrics. */
export interface Bindings {
  /** Binds an id that the app minted. Resolves when the response may go out: committed, or failed and reported. */
  bindDiscovered(id: SessionId, protocol: string): Promise<void>;
  /**
   * Binds an id that the client sent and the app accepted; `from` is the Machine to take it over from.
   * Resolves when the response may go out: to the owner, if it is another Machine. Reports a failure.
   */
  claim(
    key: SessionKey,
    from: MachineId | undefined,
    protocol: string,
  ): Promise<MachineId | undefined>;
  /** A request that may lead to such a claim is in progress. Returns a function that ends this. */
  beginClaim(key: SessionKey): () => void;
  /** Whether such a request is in progress. */
  isInFlight(key: SessionKey): boolean;
  /** The pending claim that peers receive for a key that is served here but not claimed yet. */
  pendingClaimOf(key: SessionKey): Claim | undefined;
  /** Extends a used binding, if enough of its lifetime has passed. */
  touchIfDue(binding: Binding): void;
  /** Rewrites a binding from an earlier id of this Machine. */
  restore(binding: Binding): void;
  /** Ends a session of this Machine. */
  endSession(key: SessionKey, protocol: string, why: EndReason): void;
  /** Drops a copy that its owner has disowned. */
  dropCopy(key: SessionKey, machine: MachineId): void;
  /** Keeps a session alive while a stream of it is open. Returns a function that ends this; a second call does nothing. */
  keepAlive(key: SessionKey): () => void;
  /** The stream that revealed this id has ended. */
  endWithStream(key: SessionKey, protocol: string): void;
  /** Waits for the writes in progress. */
  stop(): Promise<void>;
}

interface BindingsParts {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly peers: Pick<Peers, 'announce'>;
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly metrics: Pick<Metrics, 'sessionOpened' | 'sessionEnded'>;
  readonly onFailure: (failure: StoreFailure) => void;
  /** The app minted an id here that was bound to another Machine; this Machine now owns it. */
  readonly onConflict: (key: SessionKey, other: MachineId) => void;
  /** This Machine no longer owns a streamed session. May be called again while streams are open. */
  readonly onLost?: (key: SessionKey, release: Release) => void;
}

export function createBindings(parts: BindingsParts): Bindings {
  const { self, store, clock, ttlMs, onFailure } = parts;
  const background = new BackgroundWrites(clock, onFailure);
  const pending = new PendingClaims(clock);
  const writes = new BindingWrites(parts);
  const streamed = new StreamedSessions({
    ...{ self, store, clock, ttlMs },
    background: (operation, work) => background.run(operation, work),
    onLost: (key, release) => parts.onLost?.(key, release),
  });
  return {
    bindDiscovered: (id, protocol) =>
      background.runInTime('bind', writes.bind(sessionKeyOf(id), protocol)),
    claim: (key, from, protocol) =>
      background.runInTime('adopt', writes.takeOver(key, from, protocol)),
    beginClaim: (key) => pending.begin(key),
    isInFlight: (key) => pending.has(key),
    pendingClaimOf: (key) => pending.claimOf(key),
    touchIfDue: (binding) => {
      if (writes.isTouchDue(binding)) void background.run('touch', writes.touch(binding.key));
    },
    restore: (binding) => void background.run('restore', writes.restore(binding)),
    endSession: (key, protocol, why) => {
      streamed.noteEnded(key);
      void background.run('end', writes.end(key, protocol, why));
    },
    dropCopy: (key, machine) => void background.run('drop', store.delete(key, machine)),
    keepAlive: (key) => streamed.keepAlive(key),
    endWithStream: (key, protocol) => void background.run('expire', writes.expire(key, protocol)),
    stop: async () => {
      streamed.stop();
      await background.settle();
    },
  };
}

/** The writes themselves. They reject if the store fails. */
class BindingWrites {
  readonly #parts: BindingsParts;
  /** Keys whose extension is in progress: concurrent requests have read the same old binding. */
  readonly #touching = new Set<SessionKey>();
  /** Keys whose claim is in progress: of concurrent requests that open a session, one is counted. */
  readonly #claiming = new Set<SessionKey>();

  constructor(parts: BindingsParts) {
    this.#parts = parts;
  }

  async bind(key: SessionKey, protocol: string): Promise<void> {
    const { self, store, ttlMs, onConflict } = this.#parts;
    let binding = await this.#claim(key, 'learned', protocol);
    if (binding.machine !== self) {
      // The local app has just minted this id, which is newer than any copy.
      onConflict(key, binding.machine);
      const moved = await store.rebind(key, binding.machine, self, 'learned', ttlMs);
      if (moved?.machine !== self) return;
      binding = moved;
    }
    this.#announce(binding);
  }

  /** Resolves to the owner, if it is another Machine. */
  async takeOver(
    key: SessionKey,
    from: MachineId | undefined,
    protocol: string,
  ): Promise<MachineId | undefined> {
    const { self, store, ttlMs } = this.#parts;
    const binding =
      from === undefined
        ? await this.#claim(key, 'adopted', protocol)
        : await store.rebind(key, from, self, 'adopted', ttlMs);
    if (binding?.machine !== self) return binding?.machine;
    this.#announce(binding);
    return undefined;
  }

  /** The binding is new if it is no older than the claim: an earlier one keeps the time of its creation. */
  async #claim(key: SessionKey, origin: BindingOrigin, protocol: string): Promise<Binding> {
    const { self, store, ttlMs, clock, metrics } = this.#parts;
    const claimedAt = clock.now();
    const isFirst = !this.#claiming.has(key);
    this.#claiming.add(key);
    try {
      const binding = await store.claim({ key, machine: self, origin, ttlMs });
      const isNew = binding.machine === self && binding.createdAt >= claimedAt;
      if (isNew && isFirst) metrics.sessionOpened(protocol);
      return binding;
    } finally {
      if (isFirst) this.#claiming.delete(key);
    }
  }

  async end(key: SessionKey, protocol: string, why: EndReason): Promise<void> {
    const { self, store, metrics } = this.#parts;
    if (await store.delete(key, self)) metrics.sessionEnded(protocol, why);
  }

  /** A shared store needs no announcement. */
  #announce(binding: Binding): void {
    const { store, peers, ttlMs } = this.#parts;
    if (!store.isShared) peers.announce(binding, ttlMs);
  }

  isTouchDue({ key, expiresAt }: Binding): boolean {
    const { clock, ttlMs } = this.#parts;
    const usedMs = ttlMs - (expiresAt - clock.now());
    return usedMs >= ttlMs * touchAfter(key) && !this.#touching.has(key);
  }

  touch(key: SessionKey): Promise<unknown> {
    const { store, ttlMs } = this.#parts;
    this.#touching.add(key);
    return store.touch(key, ttlMs).finally(() => this.#touching.delete(key));
  }

  restore({ key, machine, origin, expiresAt }: Binding): Promise<unknown> {
    const { self, store, clock } = this.#parts;
    const leftMs = Math.max(1, expiresAt - clock.now());
    return store.rebind(key, machine, self, origin, leftMs);
  }

  /** Never shortens a session of another Machine. */
  async expire(key: SessionKey, protocol: string): Promise<void> {
    const { self, store, ttlMs, metrics } = this.#parts;
    const found = await store.lookup(key);
    if (typeof found === 'object' && found.machine !== self) return;
    const isThere = await store.expireWithin(key, Math.min(STREAM_GRACE_MS, ttlMs));
    if (isThere) metrics.sessionEnded(protocol, 'stream-closed');
  }
}

/** Varies by key, so that sessions opened together are not always written together. */
function touchAfter(key: SessionKey): number {
  return TOUCH_AFTER + (TOUCH_JITTER * (parseInt(key.slice(0, 2), 16) || 0)) / 255;
}

/*
 * Keys that a request in progress may claim: the app has not accepted them yet. Peers receive these claims,
 * so that no other Machine serves the session meanwhile.
 */

/** How long a peer may rely on a pending claim, in ms. */
const PENDING_TTL_MS = 2_000;

class PendingClaims {
  readonly #clock: Pick<Clock, 'now'>;
  /** The number of requests, and the start of the first, in ms since the epoch. */
  readonly #claims = new Map<SessionKey, { count: number; readonly since: number }>();

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** Returns a function that ends this; a second call does nothing. */
  begin(key: SessionKey): () => void {
    const claim = this.#claims.get(key) ?? { count: 0, since: this.#clock.now() };
    claim.count += 1;
    this.#claims.set(key, claim);
    let hasEnded = false;
    return () => {
      if (hasEnded) return;
      hasEnded = true;
      claim.count -= 1;
      if (claim.count === 0) this.#claims.delete(key);
    };
  }

  has(key: SessionKey): boolean {
    return this.#claims.has(key);
  }

  /** The claim that peers receive. */
  claimOf(key: SessionKey): Claim | undefined {
    const claim = this.#claims.get(key);
    if (!claim) return undefined;
    const { since: createdAt } = claim;
    return {
      ...{ generation: 1, origin: 'adopted', createdAt, ttlMs: PENDING_TTL_MS },
      isPending: true,
    } as const;
  }
}
