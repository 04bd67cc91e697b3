/**
 * What the request path writes to the store: bindings made, slid, moved and ended for this Machine.
 * A failing store is counted and logged here, and fails no request (invariant 7).
 */
import type { Binding, MachineId, SessionId, SessionKey } from '../affinity/session.ts';
import { sessionKeyOf } from '../affinity/session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Peers } from '../fleet/peers.ts';
import type { SessionStore } from '../store/store.ts';
import type { PeerOwner } from './owner.ts';

/** How long an answer waits for its binding at most, in ms: beyond it the store counts as failed. */
export const COMMIT_TIMEOUT_MS = 2_000;
/** How long a session outlives the stream that taught its id, in ms: a reconnect may be under way. */
export const STREAM_GRACE_MS = 60_000;
/** A binding is written again when this part of its time to live has passed; a key-dependent twentieth is added. */
const SLIDE_AFTER = 0.1;
const SLIDE_JITTER = 0.05;

export interface Bindings {
  /** Binds an id that the app minted. Resolves when the answer may go out: committed, or failed and reported. */
  learn(id: SessionId): Promise<void>;
  /** Binds an id that the client brought and the app accepted; `from` names the Machine it is taken over from. */
  adopt(key: SessionKey, from: MachineId | undefined): void;
  /** Keeps what a peer said it owns. */
  copy(key: SessionKey, owner: PeerOwner): void;
  /** Slides a binding that was used, if enough of its time has passed. */
  slide(binding: Binding): void;
  /** Names this Machine in a binding of its own past. */
  restore(binding: Binding): void;
  /** Ends a session of this Machine. */
  end(key: SessionKey): void;
  /** Drops a copy that its owner has disowned. */
  drop(key: SessionKey, machine: MachineId): void;
  /** Keeps a session alive while a stream of it is open. Returns the release; calling it twice does nothing. */
  hold(key: SessionKey): () => void;
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
  /** An operation failed; `what` is its name, for the log. */
  readonly onFailure: (what: string, error: unknown) => void;
  /** An id that the app minted here was bound to another Machine: ours now. */
  readonly onConflict: (key: SessionKey, other: MachineId) => void;
}

export function createBindings(parts: BindingsParts): Bindings {
  const { self, store, peers, clock, ttlMs, onFailure, onConflict } = parts;
  const underWay = new Set<Promise<unknown>>();
  const held = new Map<SessionKey, number>();
  /** Being slid: all that are open at once have read the same old binding. */
  const sliding = new Set<SessionKey>();
  let stopTouching: Cancel | undefined;

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

  async function takeOver(key: SessionKey, from: MachineId | undefined): Promise<void> {
    const binding =
      from === undefined
        ? await store.claim({ key, machine: self, origin: 'adopted', ttlMs })
        : await store.rebind(key, from, self, 'adopted', ttlMs);
    if (binding?.machine === self) announce(binding);
  }

  function background(what: string, work: Promise<unknown>): Promise<void> {
    const reported = work.then(
      () => undefined,
      (error: unknown) => onFailure(what, error),
    );
    underWay.add(reported);
    return reported.finally(() => underWay.delete(reported));
  }

  /** A store that hangs must not hang the answers. */
  function atMost(ms: number, work: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = clock.after(ms, () => {
        onFailure('bind', new Error(`no commit within ${ms} ms`));
        resolve();
      });
      void work.then(() => {
        cancel();
        resolve();
      });
    });
  }

  function touchHeld(): void {
    for (const key of held.keys()) void background('touch', store.touch(key, ttlMs));
  }

  function release(key: SessionKey): void {
    const count = (held.get(key) ?? 1) - 1;
    if (count > 0) {
      held.set(key, count);
      return;
    }
    held.delete(key);
    void background('touch', store.touch(key, ttlMs));
    if (held.size > 0) return;
    stopTouching?.();
    stopTouching = undefined;
  }

  return {
    learn: (id) => atMost(COMMIT_TIMEOUT_MS, background('bind', bind(sessionKeyOf(id)))),
    adopt: (key, from) => void background('adopt', takeOver(key, from)),
    copy: (key, { machine, generation, ttlMs: remainingMs }) => {
      const copied = { key, machine, origin: 'copied', generation, ttlMs: remainingMs } as const;
      void background('copy', store.upsert(copied));
    },
    slide: ({ key, expiresAt }) => {
      const usedMs = ttlMs - (expiresAt - clock.now());
      if (usedMs < ttlMs * slideAfter(key) || sliding.has(key)) return;
      sliding.add(key);
      const touched = store.touch(key, ttlMs).finally(() => sliding.delete(key));
      void background('touch', touched);
    },
    restore: ({ key, machine, origin, expiresAt }) => {
      const leftMs = Math.max(1, expiresAt - clock.now());
      void background('restore', store.rebind(key, machine, self, origin, leftMs));
    },
    end: (key) => void background('end', store.delete(key, self)),
    drop: (key, machine) => void background('drop', store.delete(key, machine)),
    hold: (key) => {
      held.set(key, (held.get(key) ?? 0) + 1);
      stopTouching ??= clock.every(Math.max(1, Math.floor(ttlMs / 4)), touchHeld);
      let isHeld = true;
      return () => {
        if (isHeld) release(key);
        isHeld = false;
      };
    },
    endWithStream: (key) => {
      const graceMs = Math.min(STREAM_GRACE_MS, ttlMs);
      void background('expire', store.expireWithin(key, graceMs));
    },
    stop: async () => {
      stopTouching?.();
      stopTouching = undefined;
      await Promise.all(underWay);
    },
  };
}

/** Spread by the key, so that sessions opened together are not written together for ever. */
function slideAfter(key: SessionKey): number {
  return SLIDE_AFTER + (SLIDE_JITTER * (parseInt(key.slice(0, 2), 16) || 0)) / 255;
}
