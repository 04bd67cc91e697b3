/**
 * The sessions that have a stream open here. Each is kept alive, and looked up now and then: another
 * Machine may have claimed it, or an operator may have moved or deleted it, in a store that the fleet
 * shares. What is written to a store of this Machine alone is known without looking: there a session
 * is looked up once after its stream was opened, as it may have been lost meanwhile, and when it is
 * due to be touched.
 */
import type { MachineId, SessionKey } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import type { Release } from './let-go.ts';

export interface HeldSessionsParts {
  readonly self: MachineId;
  readonly store: Pick<SessionStore, 'kind' | 'isShared' | 'lookup' | 'touch'>;
  readonly clock: Clock;
  readonly ttlMs: number;
  /** Sees to it that what is under way is waited for, and its failure reported. */
  readonly background: (what: string, work: Promise<unknown>) => Promise<unknown>;
  /** The session is not this Machine's any more. It may be said again while the session is held. */
  readonly onLost: (key: SessionKey, release: Release) => void;
}

/** What other Machines do to a session in a shared store is learned within this time, in ms. */
export const LOOK_PERIOD_MS = 10_000;
/** The sessions are looked up in so many parts a period, not all at once. */
const STRIDES = 10;
/** More than so many lookups at once would be felt by requests; the period is longer then. */
const MAX_LOOKS_AT_ONCE = 1_000;

interface Held {
  /** How many streams hold it. */
  count: number;
  /** Monotonic; undefined before the first look. */
  lookedAtMs: number | undefined;
  touchedAtMs: number;
  /** The end of its life, as it was last seen in the store. */
  endsAt: number | undefined;
  /** It was ended here, so its absence says nothing. */
  hasEnded: boolean;
}

export class HeldSessions {
  readonly #parts: HeldSessionsParts;
  /** Those that were looked up last come last. */
  readonly #held = new Map<SessionKey, Held>();
  readonly #touchEveryMs: number;
  readonly #lookEveryMs: number;
  #stopLooking: Cancel | undefined;

  constructor(parts: HeldSessionsParts) {
    this.#parts = parts;
    this.#touchEveryMs = parts.ttlMs / 4;
    this.#lookEveryMs = Math.min(this.#touchEveryMs, LOOK_PERIOD_MS);
  }

  /** Returns the release; calling it twice does nothing. */
  hold(key: SessionKey): () => void {
    const { clock } = this.#parts;
    const held = this.#held.get(key);
    if (held) held.count += 1;
    else {
      const touchedAtMs = clock.monotonicMs();
      const never = { lookedAtMs: undefined, endsAt: undefined };
      this.#held.set(key, { count: 1, touchedAtMs, hasEnded: false, ...never });
    }
    const everyMs = Math.max(1, Math.floor(this.#lookEveryMs / STRIDES));
    this.#stopLooking ??= clock.every(everyMs, () => this.#lookAtDue());
    let isHeld = true;
    return () => {
      if (isHeld) this.#release(key);
      isHeld = false;
    };
  }

  /** This Machine itself ends the session. */
  noteEnded(key: SessionKey): void {
    const held = this.#held.get(key);
    if (held) held.hasEnded = true;
  }

  stop(): void {
    this.#stopLooking?.();
    this.#stopLooking = undefined;
  }

  #release(key: SessionKey): void {
    const held = this.#held.get(key);
    if (!held) return;
    held.count -= 1;
    if (held.count > 0) return;
    this.#held.delete(key);
    this.#withLookup(key, (found) =>
      this.#otherOwner(found) === undefined ? this.#touch(key) : undefined,
    );
    if (this.#held.size === 0) this.stop();
  }

  #lookAtDue(): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const atOnce = Math.min(Math.ceil(this.#held.size / STRIDES), MAX_LOOKS_AT_ONCE);
    const due: [SessionKey, Held][] = [];
    for (const entry of this.#held) {
      if (this.#isDue(entry[1], nowMs)) due.push(entry);
      if (due.length === atOnce) break;
    }
    for (const [key, held] of due) {
      held.lookedAtMs = nowMs;
      this.#held.delete(key);
      this.#held.set(key, held);
      this.#withLookup(key, (found) => this.#see(key, found));
    }
  }

  #isDue({ lookedAtMs, touchedAtMs }: Held, nowMs: number): boolean {
    if (lookedAtMs === undefined || nowMs - touchedAtMs >= this.#touchEveryMs) return true;
    return !this.#isLocal && nowMs - lookedAtMs >= this.#lookEveryMs;
  }

  get #isLocal(): boolean {
    const { kind } = this.#parts.store;
    return kind === 'memory' || kind === 'sqlite';
  }

  /** In the same turn where the store needs no waiting. What `use` begins is waited for at the end. */
  #withLookup(key: SessionKey, use: (found: Lookup) => Promise<unknown> | undefined): void {
    const found = this.#parts.store.lookup(key);
    if (found instanceof Promise) void this.#parts.background('look', found.then(use));
    else void use(found);
  }

  #see(key: SessionKey, found: Lookup): Promise<unknown> | undefined {
    const held = this.#held.get(key);
    if (!held) return undefined;
    const { store, clock, onLost } = this.#parts;
    // A shared store that fails, or may have forgotten something, is no witness: `isShared` is false then.
    const mayBelieve = this.#isLocal || store.isShared;
    const to = this.#otherOwner(found);
    if (to !== undefined) {
      if (mayBelieve) onLost(key, { to, why: 'moved' });
      return undefined;
    }
    if (found === 'absent') {
      // A store of this Machine alone may have evicted it, and an old age ends sessions that are in use.
      const isBeforeItsEnd = held.endsAt !== undefined && clock.now() < held.endsAt;
      const isDeleted = isBeforeItsEnd && !held.hasEnded && store.isShared;
      if (isDeleted) onLost(key, { why: 'deleted' });
      return undefined;
    }
    if (found !== 'unknown') held.endsAt = found.expiresAt;
    const nowMs = clock.monotonicMs();
    if (nowMs - held.touchedAtMs < this.#touchEveryMs) return undefined;
    held.touchedAtMs = nowMs;
    return this.#touch(key);
  }

  #touch(key: SessionKey): Promise<unknown> {
    const { store, ttlMs, background } = this.#parts;
    return background('touch', store.touch(key, ttlMs));
  }

  #otherOwner(found: Lookup): MachineId | undefined {
    if (typeof found === 'string' || found.machine === this.#parts.self) return undefined;
    return found.machine;
  }
}
