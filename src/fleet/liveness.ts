/**
 * What is known of the other Machines. Every lookup returns at once, from memory.
 *
 * | evidence                                           | source                     | liveness                                | how long it counts                  |
 * | -------------------------------------------------- | -------------------------- | --------------------------------------- | ----------------------------------- |
 * | listed as running                                  | a reading of the directory | `running`                               | until the next successful reading   |
 * | deployed and not running                           | a reading                  | `stopped`                               | until the next successful reading   |
 * | the same in all readings of 10 s, list readable    | readings                   | `gone`, if `OWNER_STOPPED=gone`         | until a reading lists it as running |
 * | absent from two readings 10 s apart                | readings                   | `gone`                                  | until a reading lists it            |
 * | connections refused for `FLEET_GONE_AFTER_MS`      | this Machine, static list  | `gone`                                  | until it accepts a connection       |
 * | no response to a call, no connection               | this Machine               | `unresponsive`                          | 5 s, or until it responds           |
 * | two heartbeats in a row without a response         | this Machine               | `unresponsive`, gets no new sessions    | until it responds                   |
 * | reports for 10 s that it does not list us          | this Machine               | the same                                | until it responds otherwise         |
 * | undelivered by the edge, then a forward succeeded  | the edge, this Machine     | `unreachable-from-edge`: forward to it  | 10 s                                |
 * | status: takes new sessions or not, region, version | its own status message     | whether it is a candidate for placement | until its next status message       |
 * | none of these                                      |                            | `unlisted`                              |                                     |
 *
 * What a client may have written (a header of the edge, an owner hint) is never evidence by itself
 * (invariant 4), and no session moves because its owner is unresponsive (invariant 11).
 * `gone-machines.ts` decides what counts as gone, {@link Responsiveness} what counts as unresponsive.
 */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { normalizeAddress } from './addresses.ts';
import type { Listing, Peer } from './directory.ts';
import { GoneMachines, type DirectoryReading } from './gone-machines.ts';
import type { PeerStatus } from './messages.ts';
import { RecentMap } from './recent-map.ts';

/**
 * - `running`: the directory lists it.
 * - `unreachable-from-edge`: listed; the edge recently failed to reach it, but the private network did not.
 * - `unresponsive`: listed; it recently failed to respond to this Machine, or misses its heartbeats.
 * - `stopped`: deployed and not running. A replay starts it, which takes longer than one try.
 * - `unlisted`: nothing is known, which proves nothing.
 * - `gone`: it has certainly left the fleet, see `gone-machines.ts`.
 */
export const LIVENESS_STATES = [
  'running',
  'unreachable-from-edge',
  'unresponsive',
  'stopped',
  'unlisted',
  'gone',
] as const;
export type LivenessState = (typeof LIVENESS_STATES)[number];

/** A peer with all of its addresses, in their canonical spelling. */
export interface ListedPeer {
  readonly peer: Peer;
  readonly addresses: readonly string[];
}

export interface Reading extends DirectoryReading {
  readonly entries: readonly ListedPeer[];
}

export interface LivenessOptions {
  readonly clock: Clock;
  /** `gone`: a stopped app has lost its memory, so no request starts it for its sessions. */
  readonly ownerStopped: 'wake' | 'gone';
  /** After this time of refused connections, in ms, a Machine of a static list counts as gone; 0: never. */
  readonly goneAfterMs: number;
  /** A Machine has stopped responding to heartbeats, or responds again. */
  readonly onChange?: (machine: MachineId, isUnresponsive: boolean) => void;
  /** Machines with a failed call, or unreachable from the edge, that are remembered at most. */
  readonly maxMachines?: number;
}

/** A Machine that new sessions may be placed on. */
export interface PlacementCandidate {
  readonly machine: MachineId;
  readonly region: string | undefined;
  readonly takesSessions: boolean;
}

/** How long requests are forwarded to a Machine that the edge could not reach, in ms. */
export const UNREACHABLE_FROM_EDGE_MS = 10_000;
/** How long a Machine that left the list is shown to operators, in ms. */
const DEPARTED_MS = 600_000;
const MAX_DEPARTED = 20;
/** Far more than a fleet has: this Machine calls only Machines that the directory lists. */
const MAX_MACHINES = 1_000;

export class Liveness {
  readonly #options: LivenessOptions;
  readonly #gone: GoneMachines;
  readonly #responsiveness: Responsiveness;
  readonly #unreachableFromEdge: RecentMap<MachineId, true>;
  /** Machines that a reading no longer lists. */
  readonly #departed: RecentMap<MachineId, true>;
  #listed: ReadonlySet<MachineId> = new Set();
  #others: readonly Peer[] = [];
  #entryOf: ReadonlyMap<MachineId, ListedPeer> = new Map();
  #addresses: ReadonlySet<string> = new Set();
  #isListReadable: () => boolean = () => true;

  constructor(options: LivenessOptions) {
    const { clock, onChange, goneAfterMs, maxMachines = MAX_MACHINES } = options;
    this.#options = options;
    this.#gone = new GoneMachines({ clock, goneAfterMs });
    this.#responsiveness = new Responsiveness({ clock, onChange, maxMachines });
    this.#unreachableFromEdge = new RecentMap({
      ...{ clock, ttlMs: UNREACHABLE_FROM_EDGE_MS, maxEntries: maxMachines },
    });
    this.#departed = new RecentMap({ clock, ttlMs: DEPARTED_MS, maxEntries: MAX_DEPARTED });
  }

  // Evidence

  /** The directory was read: the running and the deployed Machines. */
  onReading(reading: Reading): void {
    this.onList(reading.entries);
    this.#gone.onReading(reading);
    const listed = new Set([...reading.running, ...reading.deployed]);
    for (const machine of this.#listed) if (!listed.has(machine)) this.#departed.set(machine, true);
    for (const machine of listed) this.#departed.delete(machine);
    this.#listed = listed;
  }

  /** The Machines of the fleet, from a list that does not state whether they run. */
  onList(entries: readonly ListedPeer[]): void {
    this.#others = entries.map(({ peer }) => peer);
    this.#entryOf = new Map(entries.map((entry) => [entry.peer.machine, entry]));
    this.#addresses = new Set(entries.flatMap(({ addresses }) => addresses));
    this.#responsiveness.onList(this.#others.map(({ machine }) => machine));
    this.#gone.keepRefusalsOf((machine) => this.#entryOf.has(machine));
  }

  /** While the list can't be read, a stopped Machine may have started again. */
  setListReadable(isListReadable: () => boolean): void {
    this.#isListReadable = isListReadable;
  }

  /** It has sent a request of its own. */
  onRequestFrom(machine: MachineId): void {
    this.#gone.resetRefusals(machine);
    this.#responsiveness.onRequestFrom(machine);
  }

  onResponse(machine: MachineId): void {
    this.#gone.resetRefusals(machine);
    this.#responsiveness.onResponse(machine);
  }

  /** It has reported its status. */
  onStatus(machine: MachineId, status: PeerStatus): void {
    this.#gone.resetRefusals(machine);
    this.#responsiveness.onStatus(machine, status);
  }

  /** It has not responded to a query, an announcement or a ping. */
  onNoResponse(machine: MachineId): void {
    this.#responsiveness.onFailedCall(machine);
  }

  onMissedHeartbeat(machine: MachineId): void {
    this.#responsiveness.onMissedHeartbeat(machine, this.#gone.isRefusing(machine));
  }

  /** It has responded that it does not list this Machine. */
  onNotListed(machine: MachineId): void {
    this.#responsiveness.onNotListed(machine, this.#gone.isRefusing(machine));
  }

  /** It has accepted a connection. Its process may still be frozen. */
  onConnected(machine: MachineId): void {
    this.#gone.resetRefusals(machine);
  }

  /** No connection could be made; `isRefused`: nothing listens at its port. */
  onConnectFailed(machine: MachineId, isRefused: boolean): void {
    this.#responsiveness.onFailedCall(machine);
    if (!isRefused) this.#gone.resetRefusals(machine);
    else if (this.#entryOf.has(machine)) this.#gone.onConnectionRefused(machine);
  }

  /** The edge could not deliver to it, but a forward succeeded. */
  onUnreachableFromEdge(machine: MachineId): void {
    this.#unreachableFromEdge.set(detachedCopy(machine), true);
  }

  // Conclusions

  /** HOT PATH. */
  of(machine: MachineId): LivenessState {
    if (this.#entryOf.has(machine)) {
      if (this.#gone.hasRefusedForLong(machine)) return 'gone';
      if (this.isUnresponsive(machine)) return 'unresponsive';
      return this.#unreachableFromEdge.has(machine) ? 'unreachable-from-edge' : 'running';
    }
    if (this.#gone.isStopped(machine)) {
      // An earlier missing response proves nothing: no request has tried to start it.
      const isGone = this.#options.ownerStopped === 'gone' && this.isConfirmedStopped(machine);
      return isGone ? 'gone' : 'stopped';
    }
    return this.#gone.isAbsentForLong(machine) ? 'gone' : 'unlisted';
  }

  listing(machine: MachineId): Listing {
    if (this.#entryOf.has(machine)) return 'running';
    return this.#gone.isStopped(machine) ? 'stopped' : 'none';
  }

  /** Whether it has certainly left the fleet. A stopped Machine has not. */
  isConfirmedGone(machine: MachineId): boolean {
    return this.#entryOf.has(machine)
      ? this.#gone.hasRefusedForLong(machine)
      : this.#gone.isAbsentForLong(machine);
  }

  isConfirmedStopped(machine: MachineId): boolean {
    return this.#gone.isStoppedForLong(machine) && this.#isListReadable();
  }

  /** Whether no call need wait for it. */
  isUnresponsive(machine: MachineId): boolean {
    return this.#responsiveness.isUnresponsive(machine);
  }

  /** The Machines of the fleet that do not respond to heartbeats. */
  missingHeartbeats(): MachineId[] {
    const machines = this.#others.map(({ machine }) => machine);
    return machines.filter((machine) => this.#responsiveness.missesHeartbeats(machine));
  }

  /** Whether it has responded since it was listed, and no two heartbeats in a row failed since. */
  isResponding(machine: MachineId): boolean {
    return this.#responsiveness.isResponding(machine);
  }

  /** What it has reported of itself; undefined while it has reported nothing. */
  statusOf(machine: MachineId): PeerStatus | undefined {
    return this.#responsiveness.statusOf(machine);
  }

  /** The protocol version that it has sent; undefined while it has sent none. */
  versionOf(machine: MachineId): number | undefined {
    return this.statusOf(machine)?.version;
  }

  /** The other Machines that run and respond. */
  candidates(): PlacementCandidate[] {
    return this.#others.flatMap(({ machine }) => {
      const isResponding = this.#responsiveness.isResponding(machine);
      if (!isResponding || this.#gone.hasRefusedForLong(machine)) return [];
      // A Machine without a status has responded to another message: it has just started, or is busy.
      const { region, takesSessions = true } = this.#responsiveness.statusOf(machine) ?? {};
      return [{ machine, region, takesSessions }];
    });
  }

  /** Whether every other Machine has been probed: it is known whether it responds to this Machine. */
  isFleetProbed(): boolean {
    return this.#others.every(({ machine }) => this.#responsiveness.isProbed(machine));
  }

  // The last list

  /** The same array until the next reading. */
  others(): readonly Peer[] {
    return this.#others;
  }

  peer(machine: MachineId): Peer | undefined {
    return this.#entryOf.get(machine)?.peer;
  }

  /** All that an operator may ask for: running, stopped, and those that have left in the last ten minutes. */
  allMachines(): MachineId[] {
    const departed = Array.from(this.#departed.entries(), ([machine]) => machine);
    const running = this.#others.map(({ machine }) => machine);
    return [...new Set([...running, ...this.#gone.stopped(), ...departed])];
  }

  isPeerAddress(address: string): boolean {
    const normalized = normalizeAddress(address);
    return normalized !== undefined && this.#addresses.has(normalized);
  }

  isAddressOf(machine: MachineId, address: string): boolean {
    const normalized = normalizeAddress(address);
    if (normalized === undefined) return false;
    return this.#entryOf.get(machine)?.addresses.includes(normalized) ?? false;
  }
}

/** Longer than a client waits after `Retry-After: 1`, in ms. */
export const UNRESPONSIVE_MS = 5_000;
/** A garbage collection pause can lose one heartbeat, but not this many in a row. */
export const MISSED_HEARTBEATS = 2;
/** A little longer than from one heartbeat of a peer to its next, in ms. */
export const RECENT_REQUEST_MS = 2_500;
/** A peer reads the directory every few seconds. Until then it may not list this Machine, in ms. */
export const NOT_LISTED_MS = 10_000;
/** New sessions wait this long for such a peer, in ms: it reads the directory at the first request. */
export const NOT_LISTED_WAIT_MS = 2_000;

interface ResponsivenessOptions {
  readonly clock: Clock;
  /** A Machine has stopped responding to heartbeats, or responds again. */
  readonly onChange?: ((machine: MachineId, isUnresponsive: boolean) => void) | undefined;
  /** Machines with a failed call that are remembered at most. */
  readonly maxMachines: number;
}

/**
 * ```
 * unprobed ───any response──> responding ──two heartbeats missed──> unresponsive
 *     │                           ^───────────any response──────────────┘ ^
 *     └──────────────────────────────────────────two heartbeats missed────┘
 * ```
 * `notListedSinceMs`: since when it responds that it does not list this Machine, in monotonic ms.
 */
type State =
  | {
      readonly kind: 'unprobed' | 'responding';
      readonly missedHeartbeats: number;
      readonly notListedSinceMs: number | undefined;
    }
  | { readonly kind: 'unresponsive' };

interface PeerRecord {
  state: State;
  /** Its last reported status; undefined before the first. */
  status: PeerStatus | undefined;
  /** When it last sent a request of its own, in monotonic ms. */
  lastRequestMs: number;
}

const UNPROBED: State = { kind: 'unprobed', missedHeartbeats: 0, notListedSinceMs: undefined };
const RESPONDING: State = { ...UNPROBED, kind: 'responding' };

/** Which Machines of the fleet respond to this one, by their heartbeats and by other calls to them. */
class Responsiveness {
  readonly #options: ResponsivenessOptions;
  readonly #records = new Map<MachineId, PeerRecord>();
  /** Machines with a recent failed call. */
  readonly #failedCalls: RecentMap<MachineId, true>;

  constructor(options: ResponsivenessOptions) {
    const { clock, maxMachines } = options;
    this.#options = options;
    this.#failedCalls = new RecentMap({ clock, ttlMs: UNRESPONSIVE_MS, maxEntries: maxMachines });
  }

  /** Adds Machines that are new on the list, and drops those that are no longer on it. */
  onList(machines: readonly MachineId[]): void {
    const listed = new Set(machines);
    for (const machine of this.#records.keys())
      if (!listed.has(machine)) this.#records.delete(machine);
    for (const machine of machines) {
      if (this.#records.has(machine)) continue;
      this.#records.set(machine, { state: UNPROBED, status: undefined, lastRequestMs: -Infinity });
    }
  }

  onRequestFrom(machine: MachineId): void {
    const record = this.#records.get(machine);
    if (record) record.lastRequestMs = this.#options.clock.monotonicMs();
    this.onResponse(machine);
  }

  onResponse(machine: MachineId): void {
    this.#failedCalls.delete(machine);
    const record = this.#records.get(machine);
    if (!record) return;
    const wasUnresponsive = record.state.kind === 'unresponsive';
    record.state = RESPONDING;
    if (wasUnresponsive) this.#options.onChange?.(machine, false);
  }

  onStatus(machine: MachineId, status: PeerStatus): void {
    const record = this.#records.get(machine);
    if (record) record.status = status;
    this.onResponse(machine);
  }

  onFailedCall(machine: MachineId): void {
    this.#failedCalls.set(detachedCopy(machine), true);
  }

  /**
   * A Machine that has just sent a request is running, even if this one can't reach it; unless it
   * refuses connections (`isRefusing`): then its process has ended since.
   */
  onMissedHeartbeat(machine: MachineId, isRefusing: boolean): void {
    const record = this.#records.get(machine);
    if (!record || record.state.kind === 'unresponsive') return;
    const sinceRequestMs = this.#options.clock.monotonicMs() - record.lastRequestMs;
    if (sinceRequestMs < RECENT_REQUEST_MS && !isRefusing) return;
    const missedHeartbeats = record.state.missedHeartbeats + 1;
    const isUnresponsive = missedHeartbeats >= MISSED_HEARTBEATS;
    record.state = isUnresponsive
      ? { kind: 'unresponsive' }
      : { ...record.state, missedHeartbeats };
    if (isUnresponsive) this.#options.onChange?.(machine, true);
  }

  /** It reported that it does not list this Machine. For a short time that is normal. */
  onNotListed(machine: MachineId, isRefusing: boolean): void {
    const record = this.#records.get(machine);
    if (!record || record.state.kind === 'unresponsive') return;
    const now = this.#options.clock.monotonicMs();
    const { notListedSinceMs = now } = record.state;
    record.state = { ...record.state, notListedSinceMs };
    if (now - notListedSinceMs >= NOT_LISTED_MS) this.onMissedHeartbeat(machine, isRefusing);
  }

  /** Whether calls need not wait for it. HOT PATH. */
  isUnresponsive(machine: MachineId): boolean {
    return this.missesHeartbeats(machine) || this.#failedCalls.has(machine);
  }

  missesHeartbeats(machine: MachineId): boolean {
    return this.#records.get(machine)?.state.kind === 'unresponsive';
  }

  isResponding(machine: MachineId): boolean {
    return this.#records.get(machine)?.state.kind === 'responding';
  }

  /** Whether it is known that it responds, that it does not, or that it does not list this Machine. */
  isProbed(machine: MachineId): boolean {
    const state = this.#records.get(machine)?.state ?? UNPROBED;
    if (state.kind !== 'unprobed') return true;
    const { notListedSinceMs = Infinity } = state;
    return this.#options.clock.monotonicMs() - notListedSinceMs >= NOT_LISTED_WAIT_MS;
  }

  statusOf(machine: MachineId): PeerStatus | undefined {
    return this.#records.get(machine)?.status;
  }
}
