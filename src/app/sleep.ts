/** The parts of a sidecar that suspend its Machine and wake it again, behind the port of `sleeper.ts`. */
import type { Config, SuspendConfig } from '../config/config.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Liveness } from '../fleet/liveness.ts';
import type { PeerStatus } from '../fleet/messages.ts';
import type { Draining } from '../routing/placement.ts';
import type { Binding } from '../session.ts';
import type { AdapterParts, OpenedStore } from './adapters.ts';
import type { RequestPath } from './request-path.ts';
import { Sleeper } from './sleeper.ts';
import { findSocketProblem, requestSuspend, type SuspendTarget } from './suspend-request.ts';

interface SleepParts {
  readonly parts: AdapterParts;
  readonly opened: OpenedStore;
  readonly path: RequestPath;
  readonly ports: { readonly public: number; readonly peer: number };
  readonly draining: Pick<Draining, 'state'>;
  readonly directory: Directory;
  readonly liveness: Pick<Liveness, 'of'>;
  /** The status that peers receive from this Machine. */
  readonly status: () => PeerStatus;
}

/** Undefined: this Machine does not suspend itself, or is none of Fly.io's. */
export function suspendTargetOf({ suspend, identity }: Config): SelfSuspend | undefined {
  const { app, machine, isGenerated } = identity;
  if (!suspend || app === undefined || isGenerated) return undefined;
  return { ...suspend, app, machine };
}

type SelfSuspend = SuspendConfig & SuspendTarget;

export function createSleeper(
  { host }: Pick<Config, 'host'>,
  { afterMs, ...target }: SelfSuspend,
  given: SleepParts,
): Sleeper {
  const { parts, opened, path, ports } = given;
  const { edge, peer } = path.listeners;
  const { paused, peers } = path.sessions;
  const { store } = opened;
  /** A shared store has the bindings already. */
  const announce = (own: readonly Binding[]): Promise<boolean> =>
    store.isShared ? Promise.resolve(true) : peers.announceAll(own);
  return new Sleeper({
    ...parts,
    suspendAfterMs: afterMs,
    idleMs: () => path.idleMs(),
    whyAwake: () => whyAwake(given),
    findProblem: () => findSocketProblem(target.socketPath),
    suspend: (signal) => requestSuspend(target, parts.clock, signal),
    notifyPeers: () => notifyPeers(given),
    pauseSessions: (isUsed) =>
      paused.pause((own) => (isUsed() ? Promise.resolve(false) : announce(own))),
    resumeSessions: (sleptMs) => paused.resume(sleptMs, announce),
    stopAccepting: () => {
      edge.stopAccepting();
      peer.stopAccepting();
    },
    connectionCount: () => edge.connectionCount() + peer.connectionCount(),
    acceptAgain: async () => {
      await peer.acceptAgain({ host, port: ports.peer });
      await edge.acceptAgain({ host, port: ports.public });
    },
    holdRequests: () => {
      path.startGate.close();
      return () => path.startGate.open();
    },
    reconnect: () => {
      path.reconnect();
      store.reconnect?.();
    },
    askPeers: async () => {
      await given.directory.findNewMachines();
      await notifyPeers(given);
      await paused.eachOwn(announce);
    },
  });
}

function whyAwake({ draining, opened, directory, path }: SleepParts): string | undefined {
  if (draining.state() === 'ending') return 'this Machine is stopping';
  if (!path.startGate.isOpen) return 'the app is starting';
  const { failing, writeBack } = opened.health();
  if (failing !== 'none' || writeBack.depth > 0) return 'the session store fails';
  const isFleetKnown = directory.status().kind !== 'failing';
  return isFleetKnown ? undefined : 'the list of Machines is unreadable';
}

/** Machines that do not respond learn it from the others, or when they are back. */
async function notifyPeers({ directory, liveness, path, status }: SleepParts): Promise<boolean> {
  const responding = directory
    .others()
    .filter(({ machine }) => ['running', 'unreachable-from-edge'].includes(liveness.of(machine)));
  const responded = await Promise.all(
    responding.map(({ machine }) => path.sessions.peers.sendHeartbeat(machine, status())),
  );
  return !responded.includes(false);
}
