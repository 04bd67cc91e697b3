/** Which Machines of the fleet respond to this one, by their heartbeats and by other calls to them. */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { PeerStatus } from './messages.ts';
import { RecentMap } from './recent-map.ts';

/** Longer than a client waits after `Retry-After: 1`, in ms. */
export const UNRESPONSIVE_MS = 5_000;
/** A garbage collection pause can lose one heartbeat, but not this many in a row. */
export const MISSED_HEARTBEATS = 2;
/** Machines that start together do not listen at once: until then, in ms, the silence of a new one is normal. */
export const STARTING_MS = 10_000;
/** A little longer than from one heartbeat of a peer to its next, in ms. */
export const RECENT_REQUEST_MS = 2_500;
/** A peer reads the directory every few seconds. Until then it may not list this Machine, in ms. */
export const NOT_LISTED_MS = 10_000;
/** New sessions wait this long for such a peer, in ms: it reads the directory at the first request. */
export const NOT_LISTED_WAIT_MS = 2_000;

interface ResponsivenessOptions {
  readonly clock: Clock;
  /**
   * A Machine has stopped responding to heartbeats, or responds again. One that has never responded is reported
   * after {@link STARTING_MS}.
   */
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
  | { readonly kind: 'unresponsive'; readonly isReported: boolean };

interface PeerRecord {
  state: State;
  /** Until then it may be starting, in monotonic ms; -Infinity once it has responded. */
  mayStartUntilMs: number;
  /** Its last reported status; undefined before the first. */
  status: PeerStatus | undefined;
  /** When it last sent a request of its own, in monotonic ms. */
  lastRequestMs: number;
}

const UNPROBED: State = { kind: 'unprobed', missedHeartbeats: 0, notListedSinceMs: undefined };
const RESPONDING: State = { ...UNPROBED, kind: 'responding' };

export class Responsiveness {
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
      this.#records.set(machine, {
        state: UNPROBED,
        mayStartUntilMs: this.#options.clock.monotonicMs() + STARTING_MS,
        status: undefined,
        lastRequestMs: -Infinity,
      });
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
    const { state } = record;
    record.state = RESPONDING;
    record.mayStartUntilMs = -Infinity;
    if (state.kind === 'unresponsive' && state.isReported) this.#options.onChange?.(machine, false);
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
    if (!record) return;
    const now = this.#options.clock.monotonicMs();
    if (record.state.kind !== 'unresponsive') {
      if (now - record.lastRequestMs < RECENT_REQUEST_MS && !isRefusing) return;
      const missedHeartbeats = record.state.missedHeartbeats + 1;
      record.state =
        missedHeartbeats >= MISSED_HEARTBEATS
          ? { kind: 'unresponsive', isReported: false }
          : { ...record.state, missedHeartbeats };
    }
    if (record.state.kind !== 'unresponsive' || record.state.isReported) return;
    if (now < record.mayStartUntilMs) return;
    record.state = { kind: 'unresponsive', isReported: true };
    this.#options.onChange?.(machine, true);
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
