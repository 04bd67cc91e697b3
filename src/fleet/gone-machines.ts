/**
 * Decides which Machines are gone for certain, which is the only reason to give their sessions to
 * another Machine (invariant 11). There are three kinds of evidence, and each has to last:
 *
 * - absent: two readings of the directory, 10 s apart, list it neither as running nor as deployed.
 * - stopped: all readings of 10 s list it as deployed and not running. The caller decides whether a stopped
 *   Machine counts as gone (`OWNER_STOPPED`).
 * - refusing: every connection was refused for `FLEET_GONE_AFTER_MS`. For Machines of a static list.
 */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { DirectoryReading } from './directory.ts';
import { RecentMap } from './recent-map.ts';

/** The shortest time from the end of one reading to the start of the next that can confirm it, in ms. */
export const MIN_ABSENCE_MS = 10_000;

/**
 * A Machine is called at least every two seconds. A longer gap between refusals, in ms, means that this
 * Machine was suspended and knows nothing of the time in between.
 */
export const REFUSALS_IN_ROW_MS = 10_000;

/**
 * The maximum number of watched Machines. Clients can fill it with generated owner hints, so the least
 * recently queried Machine is dropped first. To drop a Machine whose clients retry every second takes ten
 * thousand generated ids per second, and only delays the confirmation.
 */
const MAX_WATCHED = 10_000;

/** How long a Machine that left the list is shown to operators, in ms. */
const DEPARTED_MS = 600_000;
const MAX_DEPARTED = 20;

interface GoneMachinesOptions {
  readonly clock: Clock;
  /** How long connections must be refused, in ms; 0: refused connections are no evidence. */
  readonly goneAfterMs: number;
  readonly maxWatched?: number;
}

export class GoneMachines {
  readonly #options: GoneMachinesOptions;
  readonly #absent: AbsentMachines;
  #listed: ReadonlySet<MachineId> = new Set();
  /** Machines that a reading no longer lists, for operators. */
  readonly #departed: RecentMap<MachineId, true>;
  /** The end of the first of the readings in a row that have the Machine stopped, in monotonic ms. */
  #stoppedSinceMs: ReadonlyMap<MachineId, number> = new Map();
  #lastReadingMs = -Infinity;
  readonly #refusals = new Map<MachineId, { readonly firstMs: number; readonly lastMs: number }>();

  constructor(options: GoneMachinesOptions) {
    this.#options = options;
    const { clock, maxWatched = MAX_WATCHED } = options;
    this.#absent = new AbsentMachines(clock, maxWatched);
    this.#departed = new RecentMap({ clock, ttlMs: DEPARTED_MS, maxEntries: MAX_DEPARTED });
  }

  onReading({ startedAtMs, endedAtMs, running, deployed }: DirectoryReading): void {
    const machines = new Set([...running, ...deployed]);
    this.#absent.onReading({ startedAtMs, endedAtMs, machines });
    for (const machine of this.#listed)
      if (!machines.has(machine)) this.#departed.set(machine, true);
    for (const machine of machines) this.#departed.delete(machine);
    this.#listed = machines;
    const before = this.#stoppedSinceMs;
    const stopped = [...deployed].filter((machine) => !running.has(machine));
    this.#stoppedSinceMs = new Map(
      stopped.map((machine) => [machine, before.get(machine) ?? endedAtMs]),
    );
    this.#lastReadingMs = startedAtMs;
  }

  onConnectionRefused(machine: MachineId): void {
    const nowMs = this.#options.clock.monotonicMs();
    const { firstMs, lastMs } = this.#refusals.get(machine) ?? { firstMs: nowMs, lastMs: nowMs };
    const isInRow = nowMs - lastMs <= REFUSALS_IN_ROW_MS;
    this.#refusals.set(machine, { firstMs: isInRow ? firstMs : nowMs, lastMs: nowMs });
  }

  /** It accepted a connection, or the connection failed for another reason: it may only be cut off. */
  resetRefusals(machine: MachineId): void {
    this.#refusals.delete(machine);
  }

  /** Machines that the directory does not list have no refusals. */
  keepRefusalsOf(isListed: (machine: MachineId) => boolean): void {
    for (const machine of this.#refusals.keys())
      if (!isListed(machine)) this.#refusals.delete(machine);
  }

  /** Whether the last attempt to connect was refused. */
  isRefusing(machine: MachineId): boolean {
    return this.#refusals.has(machine);
  }

  hasRefusedForLong(machine: MachineId): boolean {
    const { goneAfterMs } = this.#options;
    const refusals = this.#refusals.get(machine);
    if (goneAfterMs === 0 || refusals === undefined) return false;
    return refusals.lastMs - refusals.firstMs >= goneAfterMs;
  }

  /** Whether the last reading lists it as deployed and not running. */
  isStopped(machine: MachineId): boolean {
    return this.#stoppedSinceMs.has(machine);
  }

  /** All that the last reading lists so. */
  stopped(): MachineId[] {
    return [...this.#stoppedSinceMs.keys()];
  }

  /** Those that have left the list within the last ten minutes. */
  departed(): MachineId[] {
    return Array.from(this.#departed.entries(), ([machine]) => machine);
  }

  /** Whether all readings of ten seconds or more had it deployed and not running. */
  isStoppedForLong(machine: MachineId): boolean {
    const sinceMs = this.#stoppedSinceMs.get(machine);
    return sinceMs !== undefined && this.#lastReadingMs - sinceMs >= MIN_ABSENCE_MS;
  }

  /** The first call for a Machine that was never listed is false and begins the watch. */
  isAbsentForLong(machine: MachineId): boolean {
    return this.#absent.isConfirmed(machine);
  }
}

interface AbsenceReading extends Pick<DirectoryReading, 'startedAtMs' | 'endedAtMs'> {
  readonly machines: ReadonlySet<MachineId>;
}

/** `missed`: since the end of the first reading without the Machine. */
type Watch =
  | { readonly kind: 'watched'; readonly fromMs: number }
  | { readonly kind: 'missed'; readonly sinceMs: number };

/**
 * Watches each Machine that a reading no longer lists, or that is queried and was never listed:
 *
 * ```
 * queried -----> watched --a reading started since lacks it--> missed --one started 10 s later too--> gone
 * listed --a reading lacks it----------------------------------^          any reading lists it -> not watched
 * ```
 * A reading from before the question counts for nothing where a Machine was never listed: the Machine
 * may have been created since, appear in the next reading, and have sessions.
 */
class AbsentMachines {
  readonly #clock: Clock;
  readonly #maxWatched: number;
  /** In the order of the last query. */
  readonly #watches = new Map<MachineId, Watch>();
  #last: AbsenceReading | undefined;

  constructor(clock: Clock, maxWatched: number) {
    this.#clock = clock;
    this.#maxWatched = maxWatched;
  }

  onReading(reading: AbsenceReading): void {
    for (const machine of this.#last?.machines ?? []) {
      if (reading.machines.has(machine)) continue;
      this.#watch(machine, { kind: 'watched', fromMs: reading.startedAtMs });
    }
    for (const [machine, watch] of this.#watches) {
      if (reading.machines.has(machine)) this.#watches.delete(machine);
      else if (watch.kind === 'watched' && reading.startedAtMs >= watch.fromMs)
        this.#watches.set(machine, { kind: 'missed', sinceMs: reading.endedAtMs });
    }
    this.#last = reading;
  }

  isConfirmed(machine: MachineId): boolean {
    if (this.#last?.machines.has(machine)) return false;
    const watch = this.#watches.get(machine);
    this.#watches.delete(machine);
    this.#watch(machine, watch ?? { kind: 'watched', fromMs: this.#clock.monotonicMs() });
    if (this.#last === undefined || watch?.kind !== 'missed') return false;
    return this.#last.startedAtMs - watch.sinceMs >= MIN_ABSENCE_MS;
  }

  #watch(machine: MachineId, watch: Watch): void {
    this.#watches.set(detachedCopy(machine), watch);
    if (this.#watches.size <= this.#maxWatched) return;
    const [leastRecent] = this.#watches.keys();
    if (leastRecent !== undefined) this.#watches.delete(leastRecent);
  }
}
