/** A Machine that joins reads the bindings of its peers, so that it also knows the sessions of Machines that do not run. */
import type { Binding, MachineId } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { addCopiesTo } from '../../store/peer-pages.ts';
import type { SessionStore, PeerCopy } from '../../store/store.ts';
import {
  MAX_PAGE_BYTES,
  type BindingsPage,
  type BindingsScope,
  type BindingRow,
  readBindings,
  type ReadOutcome,
} from './reader.ts';
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
  /** A peer owns a session that is bound to this Machine too: one of them has to release it. */
  readonly onConflict: (ours: Binding, theirs: PeerCopy) => void;
  /** This many bindings of a page were stored. */
  readonly onImported: (count: number) => void;
  readonly onReadFailed: (machine: MachineId, reason: string) => void;
  /** Called once, unless there is no other Machine or it was stopped before. */
  readonly onEnd: (summary: JoinSummary) => void;
}

export interface JoinSummary {
  /** Stored. */
  readonly bindings: number;
  /** Read to the end, or until there was no more room. */
  readonly peers: number;
  readonly durationMs: number;
  /** Half of the store was filled before all was read. */
  readonly isFull: boolean;
}

export interface FleetJoin {
  /** Aborts what is in flight; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

/** How often to check whether the directory has been read. */
const FLEET_WAIT_MS = 1_000;
const PAGES_PER_COUNT = 125;

export function startFleetJoin(options: JoinOptions): FleetJoin {
  const stopping = new AbortController();
  const ended = new FleetReader(options, stopping.signal).run();
  return {
    stop: () => {
      stopping.abort();
      return ended;
    },
  };
}

/** Reads the own bindings of each Machine, one Machine after the other, then their copies of other bindings. */
class FleetReader {
  readonly #options: JoinOptions;
  readonly #signal: AbortSignal;
  readonly #finished = new Set<MachineId>();
  readonly #skipped = new Set<MachineId>();
  #imported = 0;
  #isFull = false;
  /** The number of bindings that still fit. Requests write too, so it is counted again from time to time. */
  #room = 0;
  #pagesUntilCount = 0;

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
      bindings: this.#imported,
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
    const client = this.#createClient(peer);
    try {
      const outcome = await readBindings({
        ...{ self: this.#options.self, peer: machine, of, client },
        ...{ clock: this.#options.clock, signal: this.#signal },
        importPage: (page) => this.#importPage(page, of),
      });
      this.#record(machine, outcome);
    } finally {
      await client.close();
    }
  }

  #createClient(peer: Peer): PeerClient {
    const { directory } = this.#options;
    return createPeerClient({
      ...this.#options,
      peer,
      addressOf: () => directory.peer(peer.machine)?.address,
      onDialled: undefined,
      maxResponseBytes: MAX_PAGE_BYTES,
    });
  }

  #record(machine: MachineId, outcome: ReadOutcome): void {
    if (outcome.kind === 'read' || outcome.kind === 'full') this.#finished.add(machine);
    else this.#skipped.add(machine);
    if (outcome.kind === 'full') this.#isFull = true;
    if (outcome.kind === 'failed') this.#options.onReadFailed(machine, outcome.reason);
  }

  async #importPage(
    { machine, bindings }: BindingsPage,
    of: BindingsScope,
  ): Promise<'imported' | 'full'> {
    const { store, onImported } = this.#options;
    await this.#countRoom();
    const rows = of === 'own' ? ownRowsOf(machine, bindings) : this.#rowsOfNotRunning(bindings);
    const copies = rows.map((row) => this.#copyOf(row, of === 'own'));
    const fitting = copies.slice(0, Math.max(this.#room, 0));
    if (fitting.length > 0) {
      const added = await addCopiesTo(store, fitting);
      this.#imported += added;
      this.#room -= added;
      onImported(added);
      if (of === 'own' && added < fitting.length) await this.#reportConflicts(fitting);
    }
    return fitting.length < copies.length ? 'full' : 'imported';
  }

  /**
   * Another Machine took over a session while this one was down, and may never announce it again: without
   * this, both would serve the session forever (invariant 13).
   */
  async #reportConflicts(copies: readonly PeerCopy[]): Promise<void> {
    const { self, store, onConflict } = this.#options;
    for (const copy of copies) {
      const found = await store.lookup(copy.key);
      if (typeof found === 'object' && found.machine === self) onConflict(found, copy);
    }
  }

  async #countRoom(): Promise<void> {
    this.#pagesUntilCount -= 1;
    if (this.#pagesUntilCount > 0) return;
    const { store, maxSessions } = this.#options;
    const { total } = await store.getMetrics();
    this.#room = Math.floor(maxSessions / 2) - total;
    this.#pagesUntilCount = PAGES_PER_COUNT;
  }

  /** A peer's copies of other bindings count only if the owner does not run and so can't report them itself. */
  #rowsOfNotRunning(rows: readonly BindingRow[]): BindingRow[] {
    const owners = new Set(rows.map(({ owner }) => owner));
    const notRunning = new Set([...owners].filter((owner) => this.#isNotRunning(owner)));
    return rows.filter(({ owner }) => notRunning.has(owner));
  }

  #isNotRunning(machine: MachineId): boolean {
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

function ownRowsOf(machine: MachineId, rows: readonly BindingRow[]): BindingRow[] {
  return rows.filter(({ owner }) => owner === machine);
}
