/** The writes of the request path to the store: binds, extends, moves and ends sessions of this Machine. */
import type { Binding, MachineId, SessionId, SessionKey } from '../session.ts';
import { sessionKeyOf } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claim } from '../fleet/messages.ts';
import type { Peers } from '../fleet/peers.ts';
import type { SessionStore } from '../store/store.ts';
import { BackgroundWrites, type StoreFailure } from './background-writes.ts';
import { PendingClaims } from './pending-claims.ts';
import { StreamedSessions } from './streamed-sessions.ts';
import type { Release } from './open-streams.ts';

/** How long a session outlives the stream that revealed its id, in ms: the client may be reconnecting. */
export const STREAM_GRACE_MS = 60_000;
/** A binding is written again when this part of its time to live has passed; a key-dependent twentieth is added. */
const TOUCH_AFTER = 0.1;
const TOUCH_JITTER = 0.05;

export interface Bindings {
  /** Binds an id that the app minted. Resolves when the response may go out: committed, or failed and reported. */
  bindDiscovered(id: SessionId): Promise<void>;
  /**
   * Binds an id that the client sent and the app accepted; `from` is the Machine to take it over from.
   * Resolves when the response may go out: to the owner, if it is another Machine. Reports a failure.
   */
  claim(key: SessionKey, from: MachineId | undefined): Promise<MachineId | undefined>;
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
  endSession(key: SessionKey): void;
  /** Drops a copy that its owner has disowned. */
  dropCopy(key: SessionKey, machine: MachineId): void;
  /** Keeps a session alive while a stream of it is open. Returns a function that ends this; a second call does nothing. */
  keepAlive(key: SessionKey): () => void;
  /** The stream that revealed this id has ended. */
  endWithStream(key: SessionKey): void;
  /** Waits for the writes in progress. */
  stop(): Promise<void>;
}

export interface BindingsParts {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly peers: Pick<Peers, 'announce'>;
  readonly clock: Clock;
  readonly ttlMs: number;
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
    bindDiscovered: (id) => background.runInTime('bind', writes.bind(sessionKeyOf(id))),
    claim: (key, from) => background.runInTime('adopt', writes.takeOver(key, from)),
    beginClaim: (key) => pending.begin(key),
    isInFlight: (key) => pending.has(key),
    pendingClaimOf: (key) => pending.claimOf(key),
    touchIfDue: (binding) => {
      if (writes.isTouchDue(binding)) void background.run('touch', writes.touch(binding.key));
    },
    restore: (binding) => void background.run('restore', writes.restore(binding)),
    endSession: (key) => {
      streamed.noteEnded(key);
      void background.run('end', store.delete(key, self));
    },
    dropCopy: (key, machine) => void background.run('drop', store.delete(key, machine)),
    keepAlive: (key) => streamed.keepAlive(key),
    endWithStream: (key) => void background.run('expire', writes.expire(key)),
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

  constructor(parts: BindingsParts) {
    this.#parts = parts;
  }

  async bind(key: SessionKey): Promise<void> {
    const { self, store, ttlMs, onConflict } = this.#parts;
    let binding = await store.claim({ key, machine: self, origin: 'learned', ttlMs });
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
  async takeOver(key: SessionKey, from: MachineId | undefined): Promise<MachineId | undefined> {
    const { self, store, ttlMs } = this.#parts;
    const binding =
      from === undefined
        ? await store.claim({ key, machine: self, origin: 'adopted', ttlMs })
        : await store.rebind(key, from, self, 'adopted', ttlMs);
    if (binding?.machine !== self) return binding?.machine;
    this.#announce(binding);
    return undefined;
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
  async expire(key: SessionKey): Promise<void> {
    const { self, store, ttlMs } = this.#parts;
    const found = await store.lookup(key);
    if (typeof found === 'object' && found.machine !== self) return;
    await store.expireWithin(key, Math.min(STREAM_GRACE_MS, ttlMs));
  }
}

/** Varies by key, so that sessions opened together are not always written together. */
function touchAfter(key: SessionKey): number {
  return TOUCH_AFTER + (TOUCH_JITTER * (parseInt(key.slice(0, 2), 16) || 0)) / 255;
}
