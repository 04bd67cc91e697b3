/**
 * What the request path writes to the store: bindings made, slid, moved and ended for this Machine.
 * A failing store is counted and logged here, and fails no request (invariant 7).
 */
import type { Binding, MachineId, SessionId, SessionKey } from '../session.ts';
import { sessionKeyOf } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claim } from '../fleet/messages.ts';
import type { Peers } from '../fleet/peers.ts';
import type { SessionStore } from '../store/store.ts';
import { StreamedSessions } from './streamed-sessions.ts';
import type { Release } from './open-streams.ts';

/** How long an answer waits for its binding at most, in ms: beyond it the store counts as failed. */
export const COMMIT_TIMEOUT_MS = 2_000;
/** How long a session outlives the stream that taught its id, in ms: a reconnect may be under way. */
export const STREAM_GRACE_MS = 60_000;
/** What a peer may believe of a session that the app has not accepted yet, in ms. */
const PENDING_TTL_MS = 2_000;
/** A binding is written again when this part of its time to live has passed; a key-dependent twentieth is added. */
const TOUCH_AFTER = 0.1;
const TOUCH_JITTER = 0.05;

export interface Bindings {
  /** Binds an id that the app minted. Resolves when the answer may go out: committed, or failed and reported. */
  bindDiscovered(id: SessionId): Promise<void>;
  /**
   * Binds an id that the client brought and the app accepted; `from` names the Machine it is taken over
   * from. Resolves when the answer may go out: to the owner that has it instead of this Machine, if
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

export interface StoreFailure {
  /** Its name, for the log. */
  readonly operation: string;
  readonly error: unknown;
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
  const { self, store, peers, clock, ttlMs, onFailure, onConflict } = parts;
  const inFlight = new Set<Promise<unknown>>();
  /** Requests under way that may claim the key, and since when, in ms since the epoch. */
  const pending = new Map<SessionKey, { count: number; readonly since: number }>();
  /** Being slid: all that are open at once have read the same old binding. */
  const touching = new Set<SessionKey>();

  async function bind(key: SessionKey): Promise<void> {
    let binding = await store.claim({ key, machine: self, origin: 'learned', ttlMs });
    if (binding.machine !== self) {
      // The app beside us has just minted this id: its word is newer than any copy.
      onConflict(key, binding.machine);
      const moved = await store.rebind(key, binding.machine, self, 'learned', ttlMs);
      if (moved?.machine !== self) return;
      binding = moved;
    }
    announce(binding);
  }

  /** A store that the fleet shares tells everybody by itself. */
  function announce(binding: Binding): void {
    if (!store.isShared) peers.announce(binding, ttlMs);
  }

  async function takeOver(
    key: SessionKey,
    from: MachineId | undefined,
  ): Promise<MachineId | undefined> {
    const binding =
      from === undefined
        ? await store.claim({ key, machine: self, origin: 'adopted', ttlMs })
        : await store.rebind(key, from, self, 'adopted', ttlMs);
    if (binding?.machine !== self) return binding?.machine;
    announce(binding);
    return undefined;
  }

  function beginClaim(key: SessionKey): () => void {
    const claim = pending.get(key) ?? { count: 0, since: clock.now() };
    claim.count += 1;
    pending.set(key, claim);
    let hasEnded = false;
    return () => {
      if (hasEnded) return;
      hasEnded = true;
      claim.count -= 1;
      if (claim.count === 0) pending.delete(key);
    };
  }

  function pendingClaimOf(key: SessionKey): Claim | undefined {
    const claim = pending.get(key);
    if (!claim) return undefined;
    const { since: createdAt } = claim;
    return {
      ...{ generation: 1, origin: 'adopted', createdAt, ttlMs: PENDING_TTL_MS },
      isPending: true,
    } as const;
  }

  /** Resolves to what comes of it; a failure is reported. */
  function background<Value>(operation: string, work: Promise<Value>): Promise<Value | undefined> {
    const reported = work.catch((error: unknown) => {
      onFailure({ operation, error });
      return undefined;
    });
    inFlight.add(reported);
    return reported.finally(() => inFlight.delete(reported));
  }

  /** A store that hangs must not hang the answers. */
  function atMost<Value>(ms: number, work: Promise<Value>): Promise<Value | undefined> {
    return new Promise((resolve) => {
      const cancel = clock.after(ms, () => {
        onFailure({ operation: 'bind', error: new Error(`no commit within ${ms} ms`) });
        resolve(undefined);
      });
      void work.then((value) => {
        cancel();
        resolve(value);
      });
    });
  }

  const onLost = (key: SessionKey, release: Release): void => parts.onLost?.(key, release);
  const streamed = new StreamedSessions({ self, store, clock, ttlMs, background, onLost });

  /** Of another Machine's session nothing is shortened. */
  async function expire(key: SessionKey): Promise<void> {
    const found = await store.lookup(key);
    if (typeof found === 'object' && found.machine !== self) return;
    await store.expireWithin(key, Math.min(STREAM_GRACE_MS, ttlMs));
  }

  return {
    bindDiscovered: (id) => atMost(COMMIT_TIMEOUT_MS, background('bind', bind(sessionKeyOf(id)))),
    claim: (key, from) => atMost(COMMIT_TIMEOUT_MS, background('adopt', takeOver(key, from))),
    beginClaim,
    isInFlight: (key) => pending.has(key),
    pendingClaimOf,
    touchIfDue: ({ key, expiresAt }) => {
      const usedMs = ttlMs - (expiresAt - clock.now());
      if (usedMs < ttlMs * touchAfter(key) || touching.has(key)) return;
      touching.add(key);
      const touched = store.touch(key, ttlMs).finally(() => touching.delete(key));
      void background('touch', touched);
    },
    restore: ({ key, machine, origin, expiresAt }) => {
      const leftMs = Math.max(1, expiresAt - clock.now());
      void background('restore', store.rebind(key, machine, self, origin, leftMs));
    },
    endSession: (key) => {
      streamed.noteEnded(key);
      void background('end', store.delete(key, self));
    },
    dropCopy: (key, machine) => void background('drop', store.delete(key, machine)),
    keepAlive: (key) => streamed.keepAlive(key),
    endWithStream: (key) => void background('expire', expire(key)),
    stop: async () => {
      streamed.stop();
      await Promise.all(inFlight);
    },
  };
}

/** Spread by the key, so that sessions opened together are not written together for ever. */
function touchAfter(key: SessionKey): number {
  return TOUCH_AFTER + (TOUCH_JITTER * (parseInt(key.slice(0, 2), 16) || 0)) / 255;
}
