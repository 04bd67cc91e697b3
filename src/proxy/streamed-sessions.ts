/**
 * Sessions with open streams. Each is kept alive and probed: in a shared store another Machine may claim
 * it, or an operator may move or delete it. In a local store all writes are known: there a session is
 * probed once after its stream opens, as it may have been lost before, and when it is due to be touched.
 */
import type { MachineId, SessionKey } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import type { Release } from './open-streams.ts';

interface StreamedSessionsParts {
  readonly self: MachineId;
  readonly store: Pick<SessionStore, 'kind' | 'isShared' | 'lookup' | 'touch'>;
  readonly clock: Clock;
  readonly ttlMs: number;
  /** Waits for the work at shutdown, and reports its failure. */
  readonly background: (what: string, work: Promise<unknown>) => Promise<unknown>;
  /** Another Machine owns the session, or it has no owner. May be called again while streams are open. */
  readonly onLost: (key: SessionKey, release: Release) => void;
}

/** A change by another Machine in a shared store is noticed within this time, in ms. */
export const PROBE_PERIOD_MS = 10_000;
/** The sessions are probed in this many parts per period, not all at once. */
const STRIDES = 10;
/** More concurrent lookups would slow down requests; the period gets longer instead. */
const MAX_PROBES_AT_ONCE = 1_000;

interface StreamedSession {
  /** Its open streams. */
  count: number;
  /** Monotonic; undefined before the first probe. */
  probedAtMs: number | undefined;
  touchedAtMs: number;
  /** The end of its lifetime, as last read from the store. */
  endsAt: number | undefined;
  /** This Machine ended it, so its absence is expected. */
  hasEnded: boolean;
}

export class StreamedSessions {
  readonly #parts: StreamedSessionsParts;
  /** In the order of the last probe, the oldest first. */
  readonly #sessions = new Map<SessionKey, StreamedSession>();
  readonly #touchEveryMs: number;
  readonly #probeEveryMs: number;
  #stopProbing: Cancel | undefined;

  constructor(parts: StreamedSessionsParts) {
    this.#parts = parts;
    this.#touchEveryMs = parts.ttlMs / 4;
    this.#probeEveryMs = Math.min(this.#touchEveryMs, PROBE_PERIOD_MS);
  }

  /** Returns a function that ends this; a second call does nothing. */
  keepAlive(key: SessionKey): () => void {
    const { clock } = this.#parts;
    const session = this.#sessions.get(key);
    if (session) session.count += 1;
    else {
      const touchedAtMs = clock.monotonicMs();
      const never = { probedAtMs: undefined, endsAt: undefined };
      this.#sessions.set(key, { count: 1, touchedAtMs, hasEnded: false, ...never });
    }
    const everyMs = Math.max(1, Math.floor(this.#probeEveryMs / STRIDES));
    this.#stopProbing ??= clock.every(everyMs, () => this.#probeDue());
    let isKept = true;
    return () => {
      if (isKept) this.#release(key);
      isKept = false;
    };
  }

  /** This Machine ended the session itself. */
  noteEnded(key: SessionKey): void {
    const session = this.#sessions.get(key);
    if (session) session.hasEnded = true;
  }

  stop(): void {
    this.#stopProbing?.();
    this.#stopProbing = undefined;
  }

  #release(key: SessionKey): void {
    const session = this.#sessions.get(key);
    if (!session) return;
    session.count -= 1;
    if (session.count > 0) return;
    this.#sessions.delete(key);
    this.#withLookup(key, (found) =>
      this.#otherOwner(found) === undefined ? this.#touch(key) : undefined,
    );
    if (this.#sessions.size === 0) this.stop();
  }

  #probeDue(): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const atOnce = Math.min(Math.ceil(this.#sessions.size / STRIDES), MAX_PROBES_AT_ONCE);
    const due: [SessionKey, StreamedSession][] = [];
    for (const entry of this.#sessions) {
      if (this.#isDue(entry[1], nowMs)) due.push(entry);
      if (due.length === atOnce) break;
    }
    for (const [key, session] of due) {
      session.probedAtMs = nowMs;
      this.#sessions.delete(key);
      this.#sessions.set(key, session);
      this.#withLookup(key, (found) => this.#onProbed(key, found));
    }
  }

  #isDue({ probedAtMs, touchedAtMs }: StreamedSession, nowMs: number): boolean {
    if (probedAtMs === undefined || nowMs - touchedAtMs >= this.#touchEveryMs) return true;
    return !this.#isLocal && nowMs - probedAtMs >= this.#probeEveryMs;
  }

  get #isLocal(): boolean {
    const { kind } = this.#parts.store;
    return kind === 'memory' || kind === 'sqlite';
  }

  /** Synchronous if the store is. The work that `use` starts is awaited at shutdown. */
  #withLookup(key: SessionKey, use: (found: Lookup) => Promise<unknown> | undefined): void {
    const found = this.#parts.store.lookup(key);
    if (found instanceof Promise) void this.#parts.background('probe', found.then(use));
    else void use(found);
  }

  #onProbed(key: SessionKey, found: Lookup): Promise<unknown> | undefined {
    const session = this.#sessions.get(key);
    if (!session) return undefined;
    const { store, clock, onLost } = this.#parts;
    // A shared store that fails, or may have lost bindings, proves nothing: `isShared` is then false.
    const mayBelieve = this.#isLocal || store.isShared;
    const to = this.#otherOwner(found);
    if (to !== undefined) {
      if (mayBelieve) onLost(key, { to, why: 'moved' });
      return undefined;
    }
    if (found === 'absent') {
      // A local store may have evicted it, and the maximum age ends even sessions in use.
      const isBeforeItsEnd = session.endsAt !== undefined && clock.now() < session.endsAt;
      const isDeleted = isBeforeItsEnd && !session.hasEnded && store.isShared;
      if (isDeleted) onLost(key, { why: 'deleted' });
      return undefined;
    }
    if (found !== 'unknown') session.endsAt = found.expiresAt;
    const nowMs = clock.monotonicMs();
    if (nowMs - session.touchedAtMs < this.#touchEveryMs) return undefined;
    session.touchedAtMs = nowMs;
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
