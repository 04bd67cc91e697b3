/** What the request path writes to the store: bindings made, slid, moved and ended for this Machine. */
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

/** How long a session outlives the stream that taught its id, in ms: a reconnect may be under way. */
export const STREAM_GRACE_MS = 60_000;
/** A binding is written again when this part of its time to live has passed; a key-dependent twentieth is added. */
const TOUCH_AFTER = 0.1;
const TOUCH_JITTER = 0.05;

export interface Bindings {
  /** Binds an id that the app minted. Resolves when the response may go out: committed, or failed and reported. */
  bindDiscovered(id: SessionId): Promise<void>;
  /**
   * Binds an id that the client brought and the app accepted; `from` names the Machine it is taken over
   * from. Resolves when the response may go out: to the owner that has it instead of this Machine, if
   * there is one; a failure is reported.
   */
  claim(key: SessionKey, from: MachineId | undefined): Promise<MachineId | undefined>;
  /** A request that may bring about such a claim is being served. Returns its end. */
  beginClaim(key: SessionKey): () => void;
  /** Whether such a request is being served. */
  isInFlight(key: SessionKey): boolean;
  /** What peers are told of a key that is served here and not claimed yet. */
  pendingClaimOf(key: SessionKey): Claim | undefined;
  /** Slides a binding that was used, if enough of its time has passed. */
  touchIfDue(binding: Binding): void;
  /** Names this Machine in a binding of its own past. */
  restore(binding: Binding): void;
  /** Ends a session of this Machine. */
  endSession(key: SessionKey): void;
  /** Drops a copy that its owner has disowned. */
  dropCopy(key: SessionKey, machine: MachineId): void;
  /** Keeps a session alive while a stream of it is open. Returns the release; calling it twice does nothing. */
  keepAlive(key: SessionKey): () => void;
  /** The stream that taught this id has ended. */
  endWithStream(key: SessionKey): void;
  /** Waits for the writes under way. */
  stop(): Promise<void>;
}

export interface BindingsParts {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly peers: Pick<Peers, 'announce'>;
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly onFailure: (failure: StoreFailure) => void;
  /** An id that the app minted here was bound to another Machine: ours now. */
  readonly onConflict: (key: SessionKey, other: MachineId) => void;
  /** A session that is held is not this Machine's any more. It may be said again while it is streamed. */
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
  /** Being slid: all requests that are open at once have read the same old binding. */
  readonly #touching = new Set<SessionKey>();

  constructor(parts: BindingsParts) {
    this.#parts = parts;
  }

  async bind(key: SessionKey): Promise<void> {
    const { self, store, ttlMs, onConflict } = this.#parts;
    let binding = await store.claim({ key, machine: self, origin: 'learned', ttlMs });
    if (binding.machine !== self) {
      // The app beside us has just minted this id: its word is newer than any copy.
      onConflict(key, binding.machine);
      const moved = await store.rebind(key, binding.machine, self, 'learned', ttlMs);
      if (moved?.machine !== self) return;
      binding = moved;
    }
    this.#announce(binding);
  }

  /** Resolves to the owner that has it instead of this Machine, if there is one. */
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

  /** A store that the fleet shares tells everybody by itself. */
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

  /** Of another Machine's session nothing is shortened. */
  async expire(key: SessionKey): Promise<void> {
    const { self, store, ttlMs } = this.#parts;
    const found = await store.lookup(key);
    if (typeof found === 'object' && found.machine !== self) return;
    await store.expireWithin(key, Math.min(STREAM_GRACE_MS, ttlMs));
  }
}

/** Spread by the key, so that sessions opened together are not written together for ever. */
function touchAfter(key: SessionKey): number {
  return TOUCH_AFTER + (TOUCH_JITTER * (parseInt(key.slice(0, 2), 16) || 0)) / 255;
}
