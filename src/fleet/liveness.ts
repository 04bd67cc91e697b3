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
 * | status: it sleeps, or a peer's status says so      | its own status, a peer's   | `asleep`, gets no new sessions          | until it reports otherwise          |
 * | undelivered by the edge, then a forward succeeded  | the edge, this Machine     | `unreachable-from-edge`: forward to it  | 10 s                                |
 * | status: takes new sessions or not, region, version | its own status message     | whether it is a candidate for placement | until its next status message       |
 * | none of these                                      |                            | `unlisted`                              |                                     |
 *
 * What a client may have written (a header of the edge, an owner hint) is never evidence by itself
 * (invariant 4), and no session moves because its owner is unresponsive (invariant 11). A Machine that has
 * announced that it sleeps is silent on purpose: nothing that it misses counts, and it is gone only if it
 * was destroyed.
 * `gone-machines.ts` decides what counts as gone, `responsiveness.ts` what counts as unresponsive.
 */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { normalizeAddress } from './addresses.ts';
import type { ListedPeer, Listing, Peer, Reading } from './directory.ts';
import { GoneMachines } from './gone-machines.ts';
import type { PeerStatus } from './messages.ts';
import { RecentMap } from './recent-map.ts';
import { Responsiveness } from './responsiveness.ts';

/**
 * - `running`: the directory lists it.
 * - `unreachable-from-edge`: listed; the edge recently failed to reach it, but the private network did not.
 * - `unresponsive`: listed; it recently failed to respond to this Machine, or misses its heartbeats.
 * - `asleep`: it has announced that it is being suspended. A replay wakes it; DNS shows no difference to `stopped`.
 * - `stopped`: deployed and not running. A replay starts it, which takes longer than one try.
 * - `unlisted`: nothing is known, which proves nothing.
 * - `gone`: it has certainly left the fleet, see `gone-machines.ts`.
 */
export const LIVENESS_STATES = [
  'running',
  'unreachable-from-edge',
  'unresponsive',
  'asleep',
  'stopped',
  'unlisted',
  'gone',
] as const;
export type LivenessState = (typeof LIVENESS_STATES)[number];

export interface LivenessOptions {
  /** This Machine, which its peers may report as asleep. */
  readonly self?: MachineId;
  readonly clock: Clock;
  /** `gone`: a stopped app has lost its memory, so no request starts it for its sessions. */
  readonly ownerStopped: 'wake' | 'gone';
  /** After this time of refused connections, in ms, a Machine of a static list counts as gone; 0: never. */
  readonly goneAfterMs: number;
  /** A Machine has stopped responding to heartbeats, or responds again. */
  readonly onChange?: (machine: MachineId, isUnresponsive: boolean) => void;
  /** A Machine sleeps, or has woken. */
  readonly onSleepChange?: (machine: MachineId, isAsleep: boolean) => void;
  /** Machines with a failed call, asleep, or unreachable from the edge, that are remembered at most. */
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
/** Far more than a fleet has: this Machine calls only Machines that the directory lists. */
const MAX_MACHINES = 1_000;

export class Liveness {
  readonly #options: LivenessOptions;
  readonly #gone: GoneMachines;
  readonly #responsiveness: Responsiveness;
  readonly #unreachableFromEdge: RecentMap<MachineId, true>;
  readonly #asleep = new Set<MachineId>();
  #others: readonly Peer[] = [];
  #entryOf: ReadonlyMap<MachineId, ListedPeer> = new Map();
  #addresses: ReadonlySet<string> = new Set();
  #isListReadable: () => boolean = () => true;

  constructor(options: LivenessOptions) {
    const { clock, onChange, goneAfterMs, maxMachines = MAX_MACHINES } = options;
    this.#options = options;
    this.#gone = new GoneMachines({ clock, goneAfterMs });
    this.#responsiveness = new Responsiveness({ clock, onChange, maxMachines });
    const ttlMs = UNREACHABLE_FROM_EDGE_MS;
    this.#unreachableFromEdge = new RecentMap({ clock, ttlMs, maxEntries: maxMachines });
  }

  // Evidence

  /** The directory was read: the running and the deployed Machines. */
  onReading(reading: Reading): void {
    this.onList(reading.entries);
    this.#gone.onReading(reading);
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
    this.#setAsleep(machine, status.isAsleep === true);
    for (const sleeper of status.sleepers ?? []) {
      // It may have woken, and not have told that peer.
      const maySleep = sleeper !== this.#options.self && this.listing(sleeper) === 'stopped';
      if (maySleep) this.#setAsleep(sleeper, true);
    }
  }

  #setAsleep(machine: MachineId, isAsleep: boolean): void {
    if (this.#asleep.has(machine) === isAsleep) return;
    if (isAsleep) this.#asleep.add(detachedCopy(machine));
    else this.#asleep.delete(machine);
    const [oldest] = this.#asleep;
    const hasTooMany = this.#asleep.size > (this.#options.maxMachines ?? MAX_MACHINES);
    if (hasTooMany && oldest !== undefined) this.#asleep.delete(oldest);
    this.#options.onSleepChange?.(machine, isAsleep);
  }

  /** It has not responded to a query, an announcement or a ping. */
  onNoResponse(machine: MachineId): void {
    if (!this.#asleep.has(machine)) this.#responsiveness.onFailedCall(machine);
  }

  onMissedHeartbeat(machine: MachineId): void {
    if (this.#asleep.has(machine)) return;
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
    if (this.#asleep.has(machine)) return;
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
    const isAsleep = this.#asleep.has(machine);
    if (isAsleep && this.listing(machine) !== 'none') return 'asleep';
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
    if (this.#gone.isAbsentForLong(machine)) return 'gone';
    return isAsleep ? 'asleep' : 'unlisted';
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

  /** The Machines that sleep. A destroyed one is among them until its sessions are asked for. */
  sleepers(): MachineId[] {
    return [...this.#asleep].filter((machine) => this.of(machine) === 'asleep');
  }

  /** The protocol version that it has sent; undefined while it has sent none. */
  versionOf(machine: MachineId): number | undefined {
    return this.statusOf(machine)?.version;
  }

  /** The other Machines that run and respond. */
  candidates(): PlacementCandidate[] {
    return this.#others.flatMap(({ machine }) => {
      if (this.#asleep.has(machine) || !this.isResponding(machine)) return [];
      if (this.#gone.hasRefusedForLong(machine)) return [];
      // A Machine without a status has responded to another message: it has just started, or is busy.
      const { region, takesSessions = true } = this.#responsiveness.statusOf(machine) ?? {};
      return [{ machine, region, takesSessions }];
    });
  }

  /** Whether every other Machine has been probed: it is known whether it responds to this Machine. */
  isFleetProbed(): boolean {
    return this.#others.every(
      ({ machine }) => this.#asleep.has(machine) || this.#responsiveness.isProbed(machine),
    );
  }

  /** The same array until the next reading. */
  others(): readonly Peer[] {
    return this.#others;
  }

  peer(machine: MachineId): Peer | undefined {
    return this.#entryOf.get(machine)?.peer;
  }

  /** All that an operator may ask for: running, stopped, and those that have left in the last ten minutes. */
  allMachines(): MachineId[] {
    const running = this.#others.map(({ machine }) => machine);
    return [...new Set([...running, ...this.#gone.stopped(), ...this.#gone.departed()])];
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
