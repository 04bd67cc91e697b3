/** What is known of each other Machine, and why, for people. */
import type { MachineId } from '../session.ts';
import type { Liveness, LivenessState } from './liveness.ts';

export interface MachineReport {
  readonly machine: MachineId;
  readonly region: string | undefined;
  readonly state: LivenessState;
  /** The evidence for the state, as a clause. */
  readonly why: string;
  /** Undefined: it has not reported it. */
  readonly takesSessions: boolean | undefined;
  /** `host:port` of its sidecar on the private network; undefined while it is not listed. */
  readonly address: string | undefined;
}

type ReportedLiveness = Pick<
  Liveness,
  | 'allMachines'
  | 'of'
  | 'peer'
  | 'isResponding'
  | 'statusOf'
  | 'missingHeartbeats'
  | 'isConfirmedStopped'
>;

/** `self` is not among them. */
export function reportMachines(liveness: ReportedLiveness, self: MachineId): MachineReport[] {
  const missing = new Set(liveness.missingHeartbeats());
  const others = liveness.allMachines().filter((machine) => machine !== self);
  return others.sort().map((machine) => {
    const state = liveness.of(machine);
    const status = liveness.statusOf(machine);
    const peer = liveness.peer(machine);
    return {
      ...{ machine, region: status?.region, state },
      why: whyOf(liveness, machine, state, missing),
      takesSessions: status?.takesSessions,
      address: peer && `${peer.address ?? peer.host} port ${peer.port}`,
    };
  });
}

function whyOf(
  liveness: ReportedLiveness,
  machine: MachineId,
  state: LivenessState,
  missing: ReadonlySet<MachineId>,
): string {
  switch (state) {
    case 'running':
      return liveness.isResponding(machine)
        ? 'responds to heartbeats'
        : 'listed, not heard from yet';
    case 'unreachable-from-edge':
      return 'Fly Proxy could not reach it a moment ago: requests are forwarded';
    case 'unresponsive':
      return missing.has(machine)
        ? 'does not respond to heartbeats'
        : 'did not respond to a call in the last seconds';
    case 'asleep':
      return 'has announced that it suspends itself: a replay wakes it';
    case 'stopped':
      return 'deployed, not running: a replay starts it';
    case 'unlisted':
      return 'left the list of Machines a moment ago';
    case 'gone':
      if (liveness.peer(machine)) return 'refuses connections for FLEET_GONE_AFTER_MS';
      return liveness.isConfirmedStopped(machine)
        ? 'stopped, and OWNER_STOPPED=gone'
        : 'left the list of Machines';
  }
}
