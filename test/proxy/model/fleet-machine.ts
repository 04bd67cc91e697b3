/**
 * One Machine of a fleet without sockets: the real request path, peers, liveness and claims, between
 * an edge, an app and a network whose steps the test schedules.
 */
import type { Decision } from '../../../src/routing/decision.ts';
import { createRequestIdReader } from '../../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../../src/protocols/discoveries.ts';
import type { BindingOrigin, MachineId, SessionKey } from '../../../src/session.ts';
import type { Clock } from '../../../src/clock.ts';
import { createClaimResolver } from '../../../src/fleet/claim-resolver.ts';
import { Liveness } from '../../../src/fleet/liveness.ts';
import { MISSED_HEARTBEATS } from '../../../src/fleet/responsiveness.ts';
import { PROTOCOL_VERSION, type PeerStatus } from '../../../src/fleet/messages.ts';
import { createPeerService, type PeerService } from '../../../src/fleet/peer-service.ts';
import { createPeers, type Peers } from '../../../src/fleet/peers.ts';
import { AppResponses } from '../../../src/proxy/app-responses.ts';
import { createBindings } from '../../../src/proxy/bindings.ts';
import { OwnerFinder } from '../../../src/routing/find-owner.ts';
import { createActions } from '../../../src/routing/respond.ts';
import { Router } from '../../../src/routing/route.ts';
import { createPlacement } from '../../../src/routing/placement.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { LocalStore, SessionStore } from '../../../src/store/store.ts';
import { protocolsOf } from '../../protocols/heads.ts';
import type { EdgeMachine } from './edge.ts';
import { REPLAY_MAX_BODY_BYTES, TTL_MS, type AppScript } from './machine.ts';
import { addressOf, undiciOf, type NetworkParts } from './network.ts';
import { createOwnStore, createSharedStore } from './stepped-store.ts';
import { nullMetrics } from '../../../src/observability/metrics.ts';

/** What a Machine knows of a peer when the requests arrive. `unknown`: no status received yet. */
export type View = 'accepting' | 'not-accepting' | 'unresponsive' | 'unknown' | 'old-version';

export interface FleetScript {
  readonly machine: MachineId;
  readonly app: AppScript;
  /** The edge delivers to it. */
  readonly isReachable: boolean;
  /** It responds to its peers. */
  readonly answersPeers: boolean;
  readonly isDraining: boolean;
  readonly isStoreBusy: boolean;
  /** The peers that its directory lists, and what it knows of them. */
  readonly views: Readonly<Partial<Record<string, View>>>;
  /** How far its clock is ahead, in ms. */
  readonly clockAheadMs: number;
}

export interface FleetParts extends NetworkParts {
  readonly clock: Clock;
  /** The shared store, if there is one. */
  readonly shared: LocalStore | undefined;
  readonly hints: boolean;
}

export interface FleetMachine extends EdgeMachine {
  readonly script: FleetScript;
  /** Its own store, or the shared store. */
  readonly memory: LocalStore;
  readonly service: PeerService;
  readonly liveness: Liveness;
  readonly peers: Peers;
  readonly decisions: Decision[];
  /** Sessions that its store lost to another Machine, and sessions that the claim resolver released. */
  readonly lost: readonly SessionKey[];
  readonly released: readonly SessionKey[];
  /** Claim conflicts that its claim resolver found, in order. */
  readonly conflicts: readonly string[];
  /** Whether its store names another owner of the session. */
  knowsOtherOwner(key: SessionKey): boolean;
  /** Repairs all faults and makes all Machines known. */
  heal(others: readonly MachineId[]): void;
  status(): PeerStatus;
  idle(): Promise<void>;
}

const PROTOCOLS = protocolsOf('mcp,rpc,query:doc');

export function createFleetMachine(script: FleetScript, parts: FleetParts): FleetMachine {
  const { machine: self } = script;
  const { steps } = parts;
  const health = { isStoreBusy: script.isStoreBusy, isDraining: script.isDraining };
  const { clockAheadMs } = script;
  const clock: Clock = { ...parts.clock, now: () => parts.clock.now() + clockAheadMs };
  const lost: SessionKey[] = [];
  const released: SessionKey[] = [];
  const conflicts: string[] = [];
  const memory = parts.shared ?? newMemory(clock);
  const isBusy = (): boolean => health.isStoreBusy;
  const store = parts.shared
    ? createSharedStore(memory, steps, isBusy)
    : createOwnStore({ self, memory, steps, isBusy, onLost: (key) => void lost.push(key) });
  const liveness = new Liveness({ clock, ownerStopped: 'wake', goneAfterMs: 0 });
  applyViews(liveness, script);
  const claimResolver = createClaimResolver({
    ...{ self, store, clock },
    isReady: () => !health.isStoreBusy,
    pendingClaimOf: (key) => bindings.pendingClaimOf(key),
    onConflict: (outcome) => void conflicts.push(outcome),
    onContested: (binding, ttlMs) => peers.announce(binding, ttlMs),
    onReleased: (key) => {
      peers.retract(key);
      released.push(key);
    },
  });
  const peers = createPeers({
    self,
    directory: directoryOf(liveness),
    clock,
    random: () => 0.5,
    liveness,
    onClaim: (key, claimant) => void claimResolver.onAnnouncement(key, claimant.machine, claimant),
    onOutranked: (key, winner) => void claimResolver.onAnnouncement(key, winner.machine, winner),
    loadUndici: undiciOf(self, parts),
  });
  const bindings = createBindings({
    metrics: nullMetrics,
    ...{ self, store, peers, clock },
    ttlMs: TTL_MS,
    // No write fails here, but a commit may be too late: then the response does not wait for it.
    onFailure: () => undefined,
    onConflict: () => void conflicts.push('minted'),
  });
  const status = (): PeerStatus => ({
    version: PROTOCOL_VERSION,
    takesSessions: !health.isDraining,
    region: undefined,
  });
  const decisions: Decision[] = [];
  return {
    ...{ script, memory, liveness, peers, decisions, lost, released, conflicts, status },
    service: createPeerService({
      self,
      claimResolver: claimResolver,
      directory: { ...directoryOf(liveness), refresh: () => Promise.resolve() },
      onRequestFrom: (machine) => liveness.onResponse(machine),
      onStatus: (machine, reported) => liveness.onStatus(machine, reported),
      onAnnounced: (key, machine) => peers.onAnnounced(key, machine),
      status,
    }),
    ...routingOf({
      self,
      store,
      liveness,
      peers,
      bindings,
      health,
      hints: parts.hints,
    }),
    responses: new AppResponses(
      createDiscoverer(PROTOCOLS, { hints: parts.hints, self, clock, createId: () => 'token' }),
      bindings,
    ),
    bindings: {
      ...bindings,
      // As in the proxied request: find the current owner before the next attempt.
      dropCopy: (key, machine) => {
        bindings.dropCopy(key, machine);
        void peers.ask(key);
      },
    },
    knowsOtherOwner: (key) => {
      const found = isBusy() ? 'unknown' : memory.lookup(key);
      return typeof found === 'object' && found.machine !== self;
    },
    heal: (others) => {
      Object.assign(health, { isStoreBusy: false, isDraining: false });
      if (others.some((machine) => liveness.peer(machine) === undefined))
        liveness.onList(others.map(listed));
    },
    idle: async () => {
      await bindings.stop();
      await peers.stop();
      await claimResolver.idle();
    },
  };
}

function newMemory(clock: Clock): LocalStore {
  return createMemoryStore({ clock, limits: { maxSessions: 1_000, maxAgeMs: 0 } });
}

/** A binding that is in a store before the requests arrive. */
export interface FleetRow {
  readonly key: SessionKey;
  /** The Machine whose store has the row. */
  readonly on: MachineId;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  readonly generation: number;
}

function listed(machine: MachineId): Parameters<Liveness['onList']>[0][number] {
  return { peer: { machine, host: machine, port: 1 }, addresses: [addressOf(machine)] };
}

/** Applies what the directory and the heartbeats have reported so far. */
function applyViews(liveness: Liveness, { views }: FleetScript): void {
  const known = Object.entries(views) as [MachineId, View][];
  liveness.onList(known.map(([machine]) => listed(machine)));
  for (const [machine, view] of known) {
    const version = view === 'old-version' ? 1 : PROTOCOL_VERSION;
    const takesSessions = view !== 'not-accepting';
    if (view === 'unresponsive')
      for (let beat = 0; beat < MISSED_HEARTBEATS; beat += 1) liveness.onMissedHeartbeat(machine);
    else if (view !== 'unknown')
      liveness.onStatus(machine, { version, takesSessions, region: undefined });
  }
}

function directoryOf(liveness: Liveness) {
  return {
    others: () => liveness.others(),
    peer: (machine: MachineId) => liveness.peer(machine),
    isPeerAddress: (address: string) => liveness.isPeerAddress(address),
    isAddressOf: (machine: MachineId, address: string) => liveness.isAddressOf(machine, address),
    status: () => ({ kind: 'ok', readAt: 0 }) as const,
    findNewMachines: () => Promise.resolve(false),
  };
}

interface RoutingParts {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly liveness: Liveness;
  readonly peers: Peers;
  readonly bindings: ReturnType<typeof createBindings>;
  readonly health: { readonly isDraining: boolean };
  readonly hints: boolean;
}

function routingOf({ self, store, liveness, peers, bindings, health, hints }: RoutingParts) {
  const directory = directoryOf(liveness);
  const router = new Router({
    ...{ self, liveness, directory, namedByCookie: undefined },
    readIds: createRequestIdReader(PROTOCOLS, { hints }),
    owners: new OwnerFinder({
      ...{ self, hints, store, directory, liveness, peers, replays: 'resilient' },
      clock: { now: () => 0 },
      isInFlight: (key) => bindings.isInFlight(key),
      onDisowned: (key, machine) => bindings.dropCopy(key, machine),
    }),
    place: createPlacement({
      ...{ self, liveness, region: undefined, scope: undefined },
      takesSessions: () => !health.isDraining,
    }),
    notAccepting: () => (health.isDraining ? 'draining' : undefined),
    policy: { ownerGone: 'reject', unknownSession: 'serve', replays: 'resilient' },
    replayMaxBodyBytes: REPLAY_MAX_BODY_BYTES,
  });
  return { router, actionFor: createActions({ directory, replayTimeoutMs: 10_000 }) };
}
