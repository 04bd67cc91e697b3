/**
 * Exchanges heartbeats with each peer every two seconds, and at once when this Machine's status changes:
 * each states whether it takes new sessions. `liveness.ts` stores the results.
 *
 *   waiting ─2 s, or our status has changed─> in flight ─response──────> waiting, 2 s
 *                                                 └─no response─> waiting, half a second
 */
import type { MachineId } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Directory } from './directory.ts';
import type { PeerStatus } from './messages.ts';
import type { Peers } from './peers.ts';

interface HeartbeatsOptions {
  readonly directory: Pick<Directory, 'others'>;
  readonly peers: Pick<Peers, 'sendHeartbeat'>;
  readonly clock: Clock;
  /** Our own status now. */
  readonly status: () => PeerStatus;
}

export interface Heartbeats {
  /** Resolves once every peer that is listed now has responded or failed to. Never rejects. */
  start(): Promise<void>;
  /** Sends our status at once; resolves as {@link start} does. */
  sendNow(): Promise<void>;
  /** Resolves once nothing is in flight. */
  stop(): Promise<void>;
}

export const HEARTBEAT_MS = 2_000;
/** The wait after a heartbeat without a response. */
export const HEARTBEAT_RETRY_MS = 500;
/** How often to check whether a heartbeat is due, a peer is new, or our own status has changed. */
const TICK_MS = 250;

interface PeerSchedule {
  dueAtMs: number;
  isInFlight: boolean;
}

export function createHeartbeats(options: HeartbeatsOptions): Heartbeats {
  const { directory, peers, clock, status } = options;
  const schedules = new Map<MachineId, PeerSchedule>();
  const inFlight = new Set<Promise<void>>();
  let sentStatus = '';
  let cancelTimer: Cancel | undefined;

  function tick(): void {
    const now = clock.monotonicMs();
    const ours = status();
    const hasChanged = JSON.stringify(ours) !== sentStatus;
    sentStatus = JSON.stringify(ours);
    const others = directory.others();
    keepOnly(others.map(({ machine }) => machine));
    for (const { machine } of others) {
      const schedule = schedules.get(machine) ?? { dueAtMs: now, isInFlight: false };
      schedules.set(machine, schedule);
      if (hasChanged) schedule.dueAtMs = now;
      if (schedule.dueAtMs <= now && !schedule.isInFlight) send(machine, schedule, ours);
    }
  }

  function keepOnly(listed: readonly MachineId[]): void {
    if (schedules.size <= listed.length && listed.every((machine) => schedules.has(machine)))
      return;
    const current = new Set(listed);
    for (const machine of schedules.keys()) if (!current.has(machine)) schedules.delete(machine);
  }

  function send(machine: MachineId, schedule: PeerSchedule, ours: PeerStatus): void {
    schedule.isInFlight = true;
    schedule.dueAtMs = Infinity;
    const sent = peers.sendHeartbeat(machine, ours).then((hasResponded) => {
      schedule.isInFlight = false;
      const waitMs = hasResponded ? HEARTBEAT_MS : HEARTBEAT_RETRY_MS;
      // It may have become due while it was in flight.
      schedule.dueAtMs = Math.min(schedule.dueAtMs, clock.monotonicMs() + waitMs);
      inFlight.delete(sent);
    });
    inFlight.add(sent);
  }

  async function sendNow(): Promise<void> {
    // What is in flight may carry the status from before.
    await Promise.all(inFlight);
    tick();
    await Promise.all(inFlight);
  }

  return {
    start: async () => {
      cancelTimer = clock.every(TICK_MS, tick);
      await sendNow();
    },
    sendNow,
    stop: async () => {
      cancelTimer?.();
      cancelTimer = undefined;
      await Promise.all(inFlight);
    },
  };
}
