/**
 * What is known of the other Machines. Every question is answered at once, out of memory.
 *
 * | evidence                                           | source                     | it says                            | how long it counts                  |
 * | -------------------------------------------------- | -------------------------- | ---------------------------------- | ----------------------------------- |
 * | listed as running                                  | a reading of the directory | `running`                          | until the next successful reading   |
 * | deployed and not running                           | a reading                  | `stopped`                          | until the next successful reading   |
 * | the same in all readings of 10 s, list readable    | readings                   | `gone`, if `OWNER_STOPPED=gone`    | until a reading lists it as running |
 * | absent from two readings 10 s apart                | readings                   | `gone`                             | until a reading lists it            |
 * | refuses every connection for `FLEET_GONE_AFTER_MS` | this Machine, static list  | `gone`                             | until it takes a connection         |
 * | no answer to a question, no connection             | this Machine               | `unresponsive`                     | 5 s, or until it answers anything   |
 * | two heartbeats in a row without an answer          | this Machine               | `unresponsive`, and no candidate   | until it answers anything           |
 * | answers for 10 s that it does not know us          | this Machine               | the same                           | until it answers anything           |
 * | undelivered by the edge, then answered a forward   | the edge, this Machine     | `unreachable-from-edge`: forward  | 10 s                                |
 * | takes new sessions or not, region, version         | its own status message     | whether it is a candidate          | until its next status message       |
 * | nothing of all that                                |                            | `unlisted`                         |                                     |
 *
 * What a client may have written (a header of the edge, a hint) never is evidence by itself
 * (invariant 4), and silence gives nothing up (invariant 11).
 */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createAbsenceWatch, MIN_ABSENCE_MS } from './gone-machines.ts';
import { normalizeAddress } from './addresses.ts';
import type { Listing, Peer } from './directory.ts';
import type { PeerStatus } from './messages.ts';

/**
 * What is known of a Machine, without waiting for it:
 * - `running`: the directory lists it.
 * - `unreachable-from-edge`: it does too, but the edge could not deliver to it just now, and the private network could.
 * - `unresponsive`: it does too, but it has just not answered this Machine, or does not answer its heartbeats.
 * - `stopped`: deployed and not running. A replay wakes it, which takes longer than one try.
 * - `unlisted`: nobody knows, which proves nothing.
 * - `gone`: two readings of the directory, ten seconds apart or more, listed us and not that one;
 *   or, where `OWNER_STOPPED=gone` says so, had it stopped. With a static list: it has refused every
 *   connection for `FLEET_GONE_AFTER_MS`.
 */
export type LivenessState =
  'running' | 'unreachable-from-edge' | 'unresponsive' | 'stopped' | 'unlisted' | 'gone';
export const LIVENESS_STATES = [
  'running',
  'unreachable-from-edge',
  'unresponsive',
  'stopped',
  'unlisted',
  'gone',
] as const;

/** A peer with all of its addresses, in their canonical spelling. */
export interface ListedPeer {
  readonly peer: Peer;
  readonly addresses: readonly string[];
}

/** A successful reading of both lists, each with this Machine on it. Monotonic times in ms. */
export interface Reading {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly entries: readonly ListedPeer[];
  readonly running: ReadonlySet<MachineId>;
  /** Stopped and suspended ones too. */
  readonly deployed: ReadonlySet<MachineId>;
}

export interface LivenessOptions {
  readonly clock: Clock;
  /** `gone`: a stopped app has lost its memory, and is not to be woken for it. */
  readonly ownerStopped: 'wake' | 'gone';
  /** How long a Machine of a static list has to refuse connections to count as gone, in ms; 0: it never does. */
  readonly goneAfterMs: number;
  /** A Machine has stopped answering its heartbeats, or answers again. */
  readonly onChange?: (machine: MachineId, isSilent: boolean) => void;
  /** Machines remembered at most of which one thing was noted lately. */
  readonly maxMachines?: number;
}

/** A Machine that new sessions may be placed on. */
export interface Candidate {
  readonly machine: MachineId;
  readonly region: string | undefined;
  readonly takesSessions: boolean;
}

/** Longer than a client waits that is told `Retry-After: 1`, in ms. */
export const UNRESPONSIVE_MS = 5_000;
/** How long a Machine is forwarded to that the edge could not reach, in ms. */
export const UNREACHABLE_FROM_EDGE_MS = 10_000;
/** One heartbeat may be lost to a pause for garbage; so many in a row are not. */
export const MISSED_HEARTBEATS = 2;
/** A little longer than from one heartbeat of a peer to its next, in ms. */
export const RECENT_REQUEST_MS = 2_500;
/** A peer reads its list every few seconds: so long it may not know this Machine yet, in ms. */
export const NOT_LISTED_MS = 10_000;
/** So long new sessions wait for it, in ms: it reads its list at once when a stranger asks. */
export const NOT_LISTED_WAIT_MS = 2_000;
/**
 * It is tried at least every two seconds. Where nobody has tried for longer, in ms, this Machine was
 * suspended, and knows nothing of the time in between.
 */
export const REFUSALS_IN_ROW_MS = 10_000;
/** Far more than a fleet has: only Machines that the directory lists are ever asked or sent anything. */
const MAX_MACHINES = 1_000;

/** What a Machine's heartbeats have shown. */
interface Heart {
  missed: number;
  /** Anything at all: it is there, whatever its status. */
  hasAnswered: boolean;
  status: PeerStatus | undefined;
  /** Monotonic ms at which it has asked or told something by itself. */
  heardAtMs: number;
  /** Monotonic ms since which it answers that it does not know this Machine. */
  strangerSinceMs: number | undefined;
}

export class Liveness {
  readonly #options: LivenessOptions;
  readonly #absences;
  readonly #silences: RecentMachines;
  readonly #detours: RecentMachines;
  readonly #hearts = new Map<MachineId, Heart>();
  /** Monotonic ms of the first and of the last refusal in a row. */
  readonly #refusals = new Map<MachineId, { readonly firstMs: number; lastMs: number }>();
  #others: readonly Peer[] = [];
  #entryOf: ReadonlyMap<MachineId, ListedPeer> = new Map();
  #addresses: ReadonlySet<string> = new Set();
  /** End of the first of the readings in a row that have the Machine stopped. */
  #stoppedSinceMs: ReadonlyMap<MachineId, number> = new Map();
  #lastReadingMs = -Infinity;
  #isListReadable: () => boolean = () => true;

  constructor(options: LivenessOptions) {
    const { clock, maxMachines = MAX_MACHINES } = options;
    this.#options = options;
    this.#absences = createAbsenceWatch(clock);
    this.#silences = new RecentMachines(clock, UNRESPONSIVE_MS, maxMachines);
    this.#detours = new RecentMachines(clock, UNREACHABLE_FROM_EDGE_MS, maxMachines);
  }

  // Evidence

  /** Who runs and who is deployed, by the directory. */
  onReading({ startedAtMs, endedAtMs, entries, running, deployed }: Reading): void {
    this.onList(entries);
    this.#absences.record({ startedAtMs, endedAtMs, machines: new Set([...running, ...deployed]) });
    const stopped = [...deployed].filter((machine) => !running.has(machine));
    const before = this.#stoppedSinceMs;
    this.#stoppedSinceMs = new Map(
      stopped.map((machine) => [machine, before.get(machine) ?? endedAtMs]),
    );
    this.#lastReadingMs = startedAtMs;
  }

  /** Who belongs to the fleet, by a list that does not say who runs. */
  onList(entries: readonly ListedPeer[]): void {
    this.#others = entries.map(({ peer }) => peer);
    this.#entryOf = new Map(entries.map((entry) => [entry.peer.machine, entry]));
    this.#addresses = new Set(entries.flatMap(({ addresses }) => addresses));
    for (const machine of this.#hearts.keys())
      if (!this.#entryOf.has(machine)) this.#hearts.delete(machine);
    for (const machine of this.#refusals.keys())
      if (!this.#entryOf.has(machine)) this.#refusals.delete(machine);
  }

  /** A stopped Machine may come back unseen by a list that can't be read. */
  setListReadable(isListReadable: () => boolean): void {
    this.#isListReadable = isListReadable;
  }

  /** It has asked or told something by itself. */
  onRequestFrom(machine: MachineId): void {
    const heart = this.#heartOf(machine);
    if (heart) heart.heardAtMs = this.#options.clock.monotonicMs();
    this.onResponse(machine);
  }

  /** It has answered something. */
  onResponse(machine: MachineId): void {
    this.#silences.forget(machine);
    this.#refusals.delete(machine);
    const heart = this.#heartOf(machine);
    if (heart) this.#beat(machine, heart);
  }

  /** It has said of itself whether it takes sessions. */
  onStatus(machine: MachineId, status: PeerStatus): void {
    this.#silences.forget(machine);
    this.#refusals.delete(machine);
    const heart = this.#heartOf(machine);
    if (!heart) return;
    heart.status = status;
    this.#beat(machine, heart);
  }

  /** A question, an announcement or a ping stayed without an answer. */
  onNoResponse(machine: MachineId): void {
    this.#silences.note(machine);
  }

  /** A heartbeat stayed without an answer. */
  onMissedHeartbeat(machine: MachineId): void {
    const heart = this.#heartOf(machine);
    if (!heart) return;
    // Whose port refuses has ended since it was heard of.
    if (this.#wasHeardJustNow(heart) && !this.#refusals.has(machine)) return;
    heart.missed += 1;
    if (heart.missed === MISSED_HEARTBEATS) this.#options.onChange?.(machine, true);
  }

  /** One that reaches this Machine is there, though this Machine may not reach it. */
  #wasHeardJustNow({ heardAtMs }: Heart): boolean {
    return this.#options.clock.monotonicMs() - heardAtMs < RECENT_REQUEST_MS;
  }

  /** It does not know this Machine yet. */
  onNotListed(machine: MachineId): void {
    const heart = this.#heartOf(machine);
    if (!heart) return;
    const now = this.#options.clock.monotonicMs();
    heart.strangerSinceMs ??= now;
    if (now - heart.strangerSinceMs >= NOT_LISTED_MS) this.onMissedHeartbeat(machine);
  }

  /** It has taken a connection: its process may stand still all the same. */
  onConnected(machine: MachineId): void {
    this.#refusals.delete(machine);
  }

  /** No connection could be made; `refused`: nobody listens there. */
  onConnectFailed(machine: MachineId, refused: boolean): void {
    this.#silences.note(machine);
    // What timed out in between was no refusal: it may have been there, and cut off.
    if (!refused) this.#refusals.delete(machine);
    if (!refused || !this.#entryOf.has(machine)) return;
    const nowMs = this.#options.clock.monotonicMs();
    const refusals = this.#refusals.get(machine);
    const isInRow = refusals !== undefined && nowMs - refusals.lastMs <= REFUSALS_IN_ROW_MS;
    if (isInRow) refusals.lastMs = nowMs;
    else this.#refusals.set(machine, { firstMs: nowMs, lastMs: nowMs });
  }

  /** The edge could not deliver to it, and it has answered a forward. */
  onUnreachableFromEdge(machine: MachineId): void {
    this.#detours.note(machine);
  }

  // What follows from it

  /** HOT PATH. */
  of(machine: MachineId): LivenessState {
    if (this.#entryOf.has(machine)) {
      if (this.#refusesForLong(machine)) return 'gone';
      if (this.isUnresponsive(machine)) return 'unresponsive';
      return this.#detours.has(machine) ? 'unreachable-from-edge' : 'running';
    }
    if (this.#stoppedSinceMs.has(machine)) {
      // Whether it was silent before says nothing now: nobody has tried to wake it.
      const isGone = this.#options.ownerStopped === 'gone' && this.isConfirmedStopped(machine);
      return isGone ? 'gone' : 'stopped';
    }
    return this.isConfirmedGone(machine) ? 'gone' : 'unlisted';
  }

  listing(machine: MachineId): Listing {
    if (this.#entryOf.has(machine)) return 'running';
    return this.#stoppedSinceMs.has(machine) ? 'stopped' : 'none';
  }

  /** Whether nobody needs to wait for it: it has just not answered. */
  isUnresponsive(machine: MachineId): boolean {
    return this.#silences.has(machine) || this.missesHeartbeats(machine);
  }

  /** Whether its heartbeats stay without an answer. */
  missesHeartbeats(machine: MachineId): boolean {
    const heart = this.#hearts.get(machine);
    return heart !== undefined && heart.missed >= MISSED_HEARTBEATS;
  }

  /**
   * Whether it has left the fleet for certain: two readings ten seconds apart or more, begun after
   * it was first asked for or missed, both without it. The first call for a Machine that was never
   * listed is false and begins the watch.
   */
  isConfirmedGone(machine: MachineId): boolean {
    if (this.#entryOf.has(machine)) return this.#refusesForLong(machine);
    return this.#absences.isConfirmedGone(machine);
  }

  /** Whether all readings of ten seconds or more had it deployed and not running. */
  isConfirmedStopped(machine: MachineId): boolean {
    const sinceMs = this.#stoppedSinceMs.get(machine);
    if (sinceMs === undefined || !this.#isListReadable()) return false;
    return this.#lastReadingMs - sinceMs >= MIN_ABSENCE_MS;
  }

  #refusesForLong(machine: MachineId): boolean {
    const { goneAfterMs } = this.#options;
    const refusals = this.#refusals.get(machine);
    if (goneAfterMs === 0 || refusals === undefined) return false;
    return refusals.lastMs - refusals.firstMs >= goneAfterMs;
  }

  /** The protocol version that it has told; undefined while it has told none. */
  versionOf(machine: MachineId): number | undefined {
    return this.#hearts.get(machine)?.status?.version;
  }

  /** Those of the others that run and answer. */
  candidates(): Candidate[] {
    return this.#others.flatMap(({ machine }) => {
      const heart = this.#hearts.get(machine);
      if (heart?.hasAnswered !== true || heart.missed >= MISSED_HEARTBEATS) return [];
      if (this.#refusesForLong(machine)) return [];
      // One that has answered a question and no heartbeat yet has just started, or is busy.
      const { region, takesSessions = true } = heart.status ?? {};
      return [{ machine, region, takesSessions }];
    });
  }

  /** Whether of each of the others it is known that it answers, or that it does not, or not to this Machine. */
  isFleetProbed(): boolean {
    const strangerUntilMs = this.#options.clock.monotonicMs() - NOT_LISTED_WAIT_MS;
    return this.#others.every(({ machine }) => {
      const { hasAnswered = false, strangerSinceMs = Infinity } = this.#hearts.get(machine) ?? {};
      const isKnown = hasAnswered || this.missesHeartbeats(machine);
      return isKnown || strangerSinceMs <= strangerUntilMs;
    });
  }

  /** Those of the fleet that do not answer their heartbeats. */
  missingHeartbeats(): MachineId[] {
    return this.#others.flatMap(({ machine }) => (this.missesHeartbeats(machine) ? [machine] : []));
  }

  // The last list

  /** The same array until the next reading. */
  others(): readonly Peer[] {
    return this.#others;
  }

  peer(machine: MachineId): Peer | undefined {
    return this.#entryOf.get(machine)?.peer;
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

  /** Undefined for a Machine that is not listed: what it says is not kept. */
  #heartOf(machine: MachineId): Heart | undefined {
    if (!this.#entryOf.has(machine)) return undefined;
    const heart = this.#hearts.get(machine) ?? {
      missed: 0,
      hasAnswered: false,
      heardAtMs: -Infinity,
      status: undefined,
      strangerSinceMs: undefined,
    };
    this.#hearts.set(machine, heart);
    return heart;
  }

  #beat(machine: MachineId, heart: Heart): void {
    const wasUnresponsive = heart.missed >= MISSED_HEARTBEATS;
    heart.missed = 0;
    heart.hasAnswered = true;
    heart.strangerSinceMs = undefined;
    if (wasUnresponsive) this.#options.onChange?.(machine, false);
  }
}

/** Machines of which one thing was noted lately. Beyond the bound the one noted longest ago is forgotten. */
class RecentMachines {
  readonly #clock: Clock;
  readonly #memoryMs: number;
  readonly #maxMachines: number;
  /** Monotonic ms, the longest ago first. */
  readonly #notedAtMs = new Map<MachineId, number>();

  constructor(clock: Clock, memoryMs: number, maxMachines: number) {
    this.#clock = clock;
    this.#memoryMs = memoryMs;
    this.#maxMachines = maxMachines;
  }

  note(machine: MachineId): void {
    this.#notedAtMs.delete(machine);
    this.#notedAtMs.set(detachedCopy(machine), this.#clock.monotonicMs());
    const [oldest] = this.#notedAtMs.keys();
    if (this.#notedAtMs.size > this.#maxMachines && oldest !== undefined)
      this.#notedAtMs.delete(oldest);
  }

  forget(machine: MachineId): void {
    this.#notedAtMs.delete(machine);
  }

  has(machine: MachineId): boolean {
    if (this.#notedAtMs.size === 0) return false;
    const atMs = this.#notedAtMs.get(machine);
    return atMs !== undefined && this.#clock.monotonicMs() - atMs < this.#memoryMs;
  }
}
