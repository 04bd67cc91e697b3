/**
 * Watches forwards that wait for the first byte of their response. A slow app is not a failure. A sidecar
 * that does not respond to pings is: its process is frozen, or its Machine is gone.
 *
 *   waiting ─2 s─> the peer is pinged every second ─two pings in a row fail─> the forward fails
 */
import type { MachineId } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';

interface ForwardWatchdogOptions {
  readonly clock: Clock;
  /** Whether the sidecar of that Machine responds; never rejects. */
  readonly ping: (machine: MachineId) => Promise<boolean>;
}

export interface ForwardWatchdog {
  /** Calls `onUnresponsive` once, unless the returned function is called first. */
  begin(machine: MachineId, onUnresponsive: () => void): Cancel;
  /** The number of watched forwards. */
  size(): number;
  stop(): void;
}

const INTERVAL_MS = 1_000;
/** How long a response may take before the peer is pinged, in ms. */
const PING_AFTER_MS = 2_000;
const FAILED_PINGS = 2;

interface WaitingForward {
  readonly machine: MachineId;
  readonly since: number;
  readonly onUnresponsive: () => void;
}

export function createForwardWatchdog({ clock, ping }: ForwardWatchdogOptions): ForwardWatchdog {
  const waiting = new Set<WaitingForward>();
  const failedPings = new Map<MachineId, number>();
  const pinging = new Set<MachineId>();
  let cancelTimer: Cancel | undefined;

  function pingLate(): void {
    const now = clock.monotonicMs();
    const late = [...waiting].filter(({ since }) => now - since >= PING_AFTER_MS);
    const machines = new Set(late.map(({ machine }) => machine));
    for (const machine of failedPings.keys())
      if (!machines.has(machine)) failedPings.delete(machine);
    for (const machine of machines) if (!pinging.has(machine)) void check(machine);
  }

  async function check(machine: MachineId): Promise<void> {
    pinging.add(machine);
    const hasResponded = await ping(machine);
    pinging.delete(machine);
    const failed = hasResponded ? 0 : (failedPings.get(machine) ?? 0) + 1;
    failedPings.set(machine, failed);
    if (failed >= FAILED_PINGS) failForwards(machine);
  }

  /** Those that have waited at least as long as the pings took. */
  function failForwards(machine: MachineId): void {
    const now = clock.monotonicMs();
    for (const one of waiting) {
      if (one.machine !== machine || now - one.since < PING_AFTER_MS) continue;
      remove(one);
      one.onUnresponsive();
    }
  }

  function remove(one: WaitingForward): void {
    waiting.delete(one);
    if (waiting.size > 0) return;
    cancelTimer?.();
    cancelTimer = undefined;
    failedPings.clear();
  }

  return {
    begin: (machine, onUnresponsive) => {
      const one = { machine, since: clock.monotonicMs(), onUnresponsive };
      waiting.add(one);
      cancelTimer ??= clock.every(INTERVAL_MS, pingLate);
      return () => remove(one);
    },
    size: () => waiting.size,
    stop: () => {
      cancelTimer?.();
      cancelTimer = undefined;
      waiting.clear();
    },
  };
}
