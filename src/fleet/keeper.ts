/** Weighs what peers claim against this Machine's own bindings. */
import type { Binding, MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import type { SessionStore } from '../store/store.ts';
import { outranks, yieldTo } from './conflict.ts';
import { claimOf, type Claim, type KeyAnswer } from './messages.ts';

export interface KeeperOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly clock: Clock;
  /**
   * Whether the store holds what this Machine owns: false while it starts and while it is degraded,
   * but not while it drains, as its sessions are still its own.
   */
  readonly isReady: () => boolean;
  /** Whether a binding of ours counts for nothing: it was made to a process of the app that has ended. */
  readonly isVoid?: (binding: Binding) => boolean;
  /** Another Machine claims what we own too: we have `kept` it, or `yielded`. */
  readonly onConflict?: (outcome: 'kept' | 'yielded') => void;
  /** The store failed; the peer got `unknown`, or its announcement was lost. */
  readonly onError?: (error: unknown) => void;
}

export interface Keeper {
  /** What we say of the key to a peer that may claim it. Never rejects. */
  answer(key: SessionKey, from: MachineId, claim: Claim | undefined): Promise<KeyAnswer>;
  /** Takes note of what a peer owns; answers with our claim if we keep the key. Never rejects. */
  hear(key: SessionKey, from: MachineId, claim: Claim): Promise<Claim | undefined>;
}

export function createKeeper(options: KeeperOptions): Keeper {
  const { self, store, clock, isReady, isVoid, onConflict, onError } = options;

  /** Our own binding of the key, if there is one. */
  async function ours(key: SessionKey): Promise<KeyAnswer | 'void'> {
    const found = await store.lookup(key);
    if (found === 'unknown') return 'unknown';
    if (found === 'absent' || found.machine !== self) return 'no';
    if (isVoid?.(found)) return 'void';
    return claimOf(found, found.expiresAt - clock.now());
  }

  async function answer(
    key: SessionKey,
    from: MachineId,
    claim: Claim | undefined,
  ): Promise<KeyAnswer> {
    if (!isReady()) return 'unknown';
    try {
      const own = await ours(key);
      if (own === 'void') return 'no';
      if (typeof own === 'string' || !claim) return own;
      return (await settle(key, own, from, claim)) ? own : 'no';
    } catch (error) {
      onError?.(error);
      return 'unknown';
    }
  }

  async function hear(key: SessionKey, from: MachineId, claim: Claim): Promise<Claim | undefined> {
    try {
      const own = await ours(key);
      if (typeof own === 'object') return (await settle(key, own, from, claim)) ? own : undefined;
      if (own === 'void') {
        await yieldTo(store, self, key, { ...claim, machine: from });
        return undefined;
      }
      const { generation, ttlMs } = claim;
      await store.upsert({ key, machine: from, origin: 'copied', generation, ttlMs });
    } catch (error) {
      onError?.(error);
    }
    return undefined;
  }

  /** Whether the key stays ours. */
  async function settle(
    key: SessionKey,
    own: Claim,
    from: MachineId,
    claim: Claim,
  ): Promise<boolean> {
    const theirs = { ...claim, machine: from };
    const isKept = outranks({ ...own, machine: self }, theirs);
    if (!isKept) await yieldTo(store, self, key, theirs);
    onConflict?.(isKept ? 'kept' : 'yielded');
    return isKept;
  }

  return { answer, hear };
}
