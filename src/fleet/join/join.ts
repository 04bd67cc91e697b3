/** A Machine that joins learns what its fleet knows: who owns the sessions of Machines that sleep. */
import type { Binding, MachineId } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { addCopiesTo } from '../../store/peer-pages.ts';
import type { SessionStore, PeerCopy } from '../../store/store.ts';
import {
  MAX_PAGE_BYTES,
  type BindingsPage,
  type BindingsScope,
  type BindingRow,
} from './messages.ts';
import { readBindings, type ReadOutcome } from './reader.ts';
import type { Directory, Peer } from '../directory.ts';
import type { Liveness } from '../liveness.ts';
import { createPeerClient, type LoadUndici, type PeerClient } from '../peer-client.ts';

export interface JoinOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  /** Bindings that the store may hold; half of that is filled at most. */
  readonly maxSessions: number;
  readonly directory: Pick<Directory, 'others' | 'peer' | 'status'>;
  readonly liveness: Pick<Liveness, 'listing' | 'isConfirmedGone'>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly loadUndici?: LoadUndici;
  /** A peer says that it owns what is bound to this Machine too: one of them is to give it up. */
  readonly onConflict: (ours: Binding, theirs: PeerCopy) => void;
  /** So many bindings of a page are new here. */
  readonly onImported: (count: number) => void;
  readonly onReadFailed: (machine: MachineId, reason: string) => void;
  /** Called once, unless there is no other Machine or it was stopped before. */
  readonly onEnd: (summary: JoinSummary) => void;
}

export interface JoinSummary {
  /** New here. */
  readonly bindings: number;
  /** Read to the end, or until there was no more room. */
  readonly peers: number;
  readonly durationMs: number;
  /** Half of the store was filled before all was read. */
  readonly isFull: boolean;
}

export interface FleetJoin {
  /** Ends what is under way; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

/** The fleet is not known yet. */
const FLEET_WAIT_MS = 1_000;
/** What others write meanwhile is counted after so many pages. */
const PAGES_PER_MEASURE = 125;

export function startFleetJoin(options: JoinOptions): FleetJoin {
  const stopping = new AbortController();
  const running = new FleetReading(options, stopping.signal).run();
  return {
    stop: () => {
      stopping.abort();
      return running;
    },
  };
}

/** First what each Machine owns itself, one after the other, then what they know of others. */
class FleetReading {
  readonly #options: JoinOptions;
  readonly #signal: AbortSignal;
  readonly #finished = new Set<MachineId>();
  readonly #skipped = new Set<MachineId>();
  #entered = 0;
  #isFull = false;
  #room = 0;
  #pagesToMeasure = 0;

  constructor(options: JoinOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const { clock, directory, onEnd } = this.#options;
    await this.#untilFleetIsKnown();
    const peers = directory.others();
    if (peers.length === 0 || this.#isStopped()) return;
    const startedAtMs = clock.monotonicMs();
    for (const scope of ['own', 'copies'] as const) {
      for (const peer of peers) await this.#read(peer, scope);
    }
    if (this.#isStopped()) return;
    onEnd({
      bindings: this.#entered,
      peers: this.#finished.size,
      durationMs: Math.round(clock.monotonicMs() - startedAtMs),
      isFull: this.#isFull,
    });
  }

  #isStopped(): boolean {
    return this.#signal.aborted;
  }

  async #untilFleetIsKnown(): Promise<void> {
    const { clock, directory } = this.#options;
    const isKnown = (): boolean => !UNKNOWN_FLEETS.has(directory.status().kind);
    while (!isKnown() && !this.#isStopped()) await clock.sleep(FLEET_WAIT_MS, this.#signal);
  }

  async #read(peer: Peer, of: BindingsScope): Promise<void> {
    const { machine } = peer;
    if (this.#isStopped() || this.#isFull || this.#skipped.has(machine)) return;
    const { self, clock } = this.#options;
    const client = this.#clientOf(peer);
    try {
      const enter = (page: BindingsPage): Promise<'entered' | 'full'> => this.#enter(page, of);
      const signal = this.#signal;
      const outcome = await readBindings({ self, peer: machine, of, client, clock, signal, enter });
      this.#note(machine, outcome);
    } finally {
      await client.close();
    }
  }

  #clientOf(peer: Peer): PeerClient {
    const { directory, clock, random, loadUndici } = this.#options;
    return createPeerClient({
      peer,
      addressOf: () => directory.peer(peer.machine)?.address,
      clock,
      random,
      onDialled: undefined,
      loadUndici,
      maxResponseBytes: MAX_PAGE_BYTES,
    });
  }

  #note(machine: MachineId, outcome: ReadOutcome): void {
    if (outcome.kind === 'read' || outcome.kind === 'full') this.#finished.add(machine);
    else this.#skipped.add(machine);
    if (outcome.kind === 'full') this.#isFull = true;
    if (outcome.kind === 'failed') this.#options.onReadFailed(machine, outcome.reason);
  }

  async #enter(
    { machine, bindings }: BindingsPage,
    of: BindingsScope,
  ): Promise<'entered' | 'full'> {
    const { store, onImported: onEntered } = this.#options;
    await this.#measure();
    const copies = of === 'own' ? this.#ofOwner(machine, bindings) : this.#hearsay(bindings);
    const fitting = copies.slice(0, Math.max(this.#room, 0));
    if (fitting.length > 0) {
      const entered = await addCopiesTo(store, fitting);
      this.#entered += entered;
      this.#room -= entered;
      onEntered(entered);
      if (of === 'own' && entered < fitting.length) await this.#contest(fitting);
    }
    return fitting.length < copies.length ? 'full' : 'entered';
  }

  /**
   * Another Machine has taken a session over while this one was down, and may have nobody left to tell
   * of it: both would serve it for good (invariant 13).
   */
  async #contest(copies: readonly PeerCopy[]): Promise<void> {
    const { self, store, onConflict: onContested } = this.#options;
    for (const copy of copies) {
      const found = await store.lookup(copy.key);
      if (typeof found === 'object' && found.machine === self) onContested(found, copy);
    }
  }

  async #measure(): Promise<void> {
    this.#pagesToMeasure -= 1;
    if (this.#pagesToMeasure > 0) return;
    const { store, maxSessions } = this.#options;
    const { total } = await store.getMetrics();
    this.#room = Math.floor(maxSessions / 2) - total;
    this.#pagesToMeasure = PAGES_PER_MEASURE;
  }

  /** A Machine's word of itself. */
  #ofOwner(machine: MachineId, rows: readonly BindingRow[]): PeerCopy[] {
    return rows.filter(({ owner }) => owner === machine).map((row) => this.#copyOf(row, true));
  }

  /** A Machine's word of another: believed where that one can't speak for itself. */
  #hearsay(rows: readonly BindingRow[]): PeerCopy[] {
    const owners = new Set(rows.map(({ owner }) => owner));
    const silent = new Set([...owners].filter((owner) => this.#isAsleep(owner)));
    return rows.filter(({ owner }) => silent.has(owner)).map((row) => this.#copyOf(row, false));
  }

  #isAsleep(machine: MachineId): boolean {
    const { self, liveness } = this.#options;
    if (machine === self || liveness.listing(machine) === 'running') return false;
    return !liveness.isConfirmedGone(machine);
  }

  #copyOf(row: BindingRow, isFromOwner: boolean): PeerCopy {
    const { key, owner: machine, generation, ageMs, ttlMs } = row;
    const createdAt = Math.floor(this.#options.clock.now()) - ageMs;
    return { key, machine, generation, createdAt, ttlMs, isFromOwner };
  }
}

const UNKNOWN_FLEETS: ReadonlySet<string> = new Set(['starting', 'failing']);
