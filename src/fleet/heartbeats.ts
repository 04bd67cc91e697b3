/**
 * Tells each peer every two seconds, and at once when it changes, whether this Machine takes new
 * sessions, and learns the same of the peer. What comes of it is kept in `liveness.ts`.
 *
 *   waiting ─2 s, or our status has changed─> under way ─answered─> waiting
 *      ^                                          └─not answered─> waiting, half a second
 *      └──────────────────────────────────────────────────────────────────┘
 */
import type { MachineId } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Directory } from './directory.ts';
import type { PeerStatus } from './messages.ts';
import type { Peers } from './peers.ts';

export interface HeartbeatsOptions {
  readonly directory: Pick<Directory, 'others'>;
  readonly peers: Pick<Peers, 'sendHeartbeat'>;
  readonly clock: Clock;
  /** What we tell of ourselves now. */
  readonly status: () => PeerStatus;
}

export interface Heartbeats {
  /** Resolves once every peer that is listed now has answered or failed to. Never rejects. */
  start(): Promise<void>;
  /** Tells our status at once; resolves as {@link start} does. */
  sendNow(): Promise<void>;
  /** Resolves once nothing is under way. */
  stop(): Promise<void>;
}

export const HEARTBEAT_MS = 2_000;
/** After one without an answer. */
export const HEARTBEAT_RETRY_MS = 500;
/** How often it is looked whether one is due, a peer is new, or our own status has changed. */
const TICK_MS = 250;

interface Beat {
  dueAtMs: number;
  isUnderWay: boolean;
}

export function createHeartbeats(options: HeartbeatsOptions): Heartbeats {
  const { directory, peers, clock, status } = options;
  const beats = new Map<MachineId, Beat>();
  const underWay = new Set<Promise<void>>();
  let told = '';
  let cancelTimer: Cancel | undefined;

  function tick(): void {
    const now = clock.monotonicMs();
    const ours = status();
    const hasChanged = JSON.stringify(ours) !== told;
    told = JSON.stringify(ours);
    const others = directory.others();
    forgetTheGone(others.map(({ machine }) => machine));
    for (const { machine } of others) {
      const beat = beats.get(machine) ?? { dueAtMs: now, isUnderWay: false };
      beats.set(machine, beat);
      if (hasChanged) beat.dueAtMs = now;
      if (beat.dueAtMs <= now && !beat.isUnderWay) send(machine, beat, ours);
    }
  }

  function forgetTheGone(listed: readonly MachineId[]): void {
    if (beats.size <= listed.length && listed.every((machine) => beats.has(machine))) return;
    const current = new Set(listed);
    for (const machine of beats.keys()) if (!current.has(machine)) beats.delete(machine);
  }

  function send(machine: MachineId, beat: Beat, ours: PeerStatus): void {
    beat.isUnderWay = true;
    beat.dueAtMs = Infinity;
    const sent = peers.sendHeartbeat(machine, ours).then((isAnswered) => {
      beat.isUnderWay = false;
      const waitMs = isAnswered ? HEARTBEAT_MS : HEARTBEAT_RETRY_MS;
      // It may have become due while it was under way.
      beat.dueAtMs = Math.min(beat.dueAtMs, clock.monotonicMs() + waitMs);
      underWay.delete(sent);
    });
    underWay.add(sent);
  }

  async function tell(): Promise<void> {
    // What is under way may carry the status of before.
    await Promise.all(underWay);
    tick();
    await Promise.all(underWay);
  }

  return {
    start: async () => {
      cancelTimer = clock.every(TICK_MS, tick);
      await tell();
    },
    sendNow: tell,
    stop: async () => {
      cancelTimer?.();
      cancelTimer = undefined;
      await Promise.all(underWay);
    },
  };
}
