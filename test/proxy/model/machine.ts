/**
 * One Machine without a network: the real request path and the real claim resolver, between an edge,
 * an app and peers whose behavior is scripted.
 */
import type { Decision } from '../../../src/routing/decision.ts';
import type { LivenessState, PlacementCandidate } from '../../../src/fleet/liveness.ts';
import { createRequestIdReader } from '../../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../../src/protocols/discoveries.ts';
import type { BindingOrigin, MachineId, SessionKey } from '../../../src/session.ts';
import {
  SIMULTANEOUS_MS,
  createClaimResolver,
  type ClaimResolver,
} from '../../../src/fleet/claim-resolver.ts';
import type { Peer } from '../../../src/fleet/directory.ts';
import { PROTOCOL_VERSION } from '../../../src/fleet/messages.ts';
import type { PeerLookup } from '../../../src/fleet/peers.ts';
import { AppResponses } from '../../../src/proxy/app-responses.ts';
import type { StoreFailure } from '../../../src/proxy/background-writes.ts';
import { createBindings, type Bindings } from '../../../src/proxy/bindings.ts';
import { createExplain, type Explain } from '../../../src/routing/explain.ts';
import { OwnerFinder } from '../../../src/routing/find-owner.ts';
import type { OwnerFinderParts } from '../../../src/routing/owner-lookup.ts';
import { createActions, type Action } from '../../../src/routing/respond.ts';
import { Router, type Routed, type RouteParts } from '../../../src/routing/route.ts';
import { createPlacement } from '../../../src/routing/placement.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { protocolsOf } from '../../protocols/heads.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';
import { createModelPeers } from './peers.ts';
import { nullMetrics } from '../../../src/observability/metrics.ts';

/** A binding that is in the store before the request arrives. */
export interface Row {
  readonly id: string;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  readonly generation: number;
}

/** How the app responds to every request. */
export interface AppScript {
  readonly status: number;
  /** An id that it mints in the `mcp-session-id` of its response. */
  readonly mints: string | undefined;
  /** The app itself replays: the `fly-replay` value of its response. */
  readonly replays: string | undefined;
}

export interface MachineScript {
  readonly machine: MachineId;
  readonly rows: readonly Row[];
  readonly app: AppScript;
  /** Destroyed: neither the edge nor a peer reaches it. */
  readonly isGone: boolean;
  /** The edge delivers to it. */
  readonly isReachable: boolean;
  /** It responds to queries, announcements and forwards of its peers. */
  readonly answersPeers: boolean;
  readonly isDraining: boolean;
  /** Its store can't serve lookups now. */
  readonly isStoreBusy: boolean;
  /** The other Machines that its directory lists. */
  readonly lists: readonly MachineId[];
  /** Its directory can't be read: there may be Machines that it does not list. */
  readonly isDirectoryFailing: boolean;
  /** Its directory has confirmed which Machines are gone. */
  readonly hasConfirmedGone: boolean;
  /** Machines that its directory reports as deployed and stopped. */
  readonly stopped: readonly MachineId[];
  /** Machines that timed out recently, still unresponsive or not. */
  readonly recentlyTimedOut: readonly MachineId[];
  /** Machines that the edge could not reach recently, and the private network could. */
  readonly unreachableFromEdge: readonly MachineId[];
  /** Machines whose heartbeats it missed, still unresponsive or not. */
  readonly missingHeartbeats: readonly MachineId[];
  /** Machines that reported an older version of the sidecar. */
  readonly olderVersion: readonly MachineId[];
  /** Each peer has responded, or counts as unresponsive. */
  readonly isFleetProbed: boolean;
  /** A scripted lookup result in place of real responses: for inconsistent worlds. */
  readonly scriptedLookup: PeerLookup | undefined;
}

/** Settings and facts that all Machines of a world share. */
export interface Surroundings {
  readonly ownerGone: 'reject' | 'adopt';
  readonly ownerStopped: 'wake' | 'gone';
  readonly unknownSession: 'serve' | 'reject';
  readonly replays: 'resilient' | 'cacheable';
  readonly hints: boolean;
  readonly isGone: (machine: MachineId) => boolean;
  readonly isDraining: (machine: MachineId) => boolean;
  /** Returns the other Machine if it responds to that peer. */
  readonly reach: (from: MachineId, to: MachineId) => ModelMachine | undefined;
}

export interface ModelMachine {
  readonly script: MachineScript;
  readonly store: SessionStore;
  readonly router: Router;
  readonly actionFor: (routed: Routed) => Action;
  /** Decisions of this Machine, in order. */
  readonly decisions: Decision[];
  readonly explain: Explain;
  readonly responses: AppResponses;
  readonly bindings: Bindings;
  readonly claimResolver: ClaimResolver;
  /** Results of its peer lookups, in order. */
  readonly lookups: readonly PeerLookup[];
  /** Sessions that it announced to its peers as its own. */
  readonly announced: ReadonlySet<SessionKey>;
  /** Whether it considers that Machine gone. */
  considersGone(machine: MachineId): boolean;
  /** Resolves when all writes are done and all announcements are received. */
  idle(): Promise<void>;
}

export const TTL_MS = 600_000;
export const REPLAY_MAX_BODY_BYTES = 1_000_000;
/** The initial bindings are older than the ones that the request creates. */
const AGE_MS = 2 * SIMULTANEOUS_MS;
const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,cookie:sid');

export async function createModelMachine(
  script: MachineScript,
  surroundings: Surroundings,
): Promise<ModelMachine> {
  const { machine: self, lists } = script;
  const { hints, ownerGone, ownerStopped, unknownSession, replays } = surroundings;
  const { isGone, reach } = surroundings;
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 1_000, maxAgeMs: 0 } });
  for (const { id, ...row } of script.rows) {
    await memory.upsert({ ...row, key: keyOf(id), ttlMs: TTL_MS });
  }
  await clock.advance(AGE_MS);
  const store: SessionStore = {
    ...memory,
    lookup: (key) => (script.isStoreBusy ? 'unknown' : memory.lookup(key)),
  };

  const peer = (machine: MachineId) => (lists.includes(machine) ? peerNamed(machine) : undefined);
  const directory = {
    others: () => lists.map(peerNamed),
    peer,
    findNewMachines: () => Promise.resolve(false),
  };
  const isConfirmedGone = (machine: MachineId): boolean =>
    script.hasConfirmedGone && isGone(machine);
  const stateOf = (machine: MachineId): LivenessState => {
    if (lists.includes(machine)) {
      if (script.recentlyTimedOut.includes(machine)) return 'unresponsive';
      return script.unreachableFromEdge.includes(machine) ? 'unreachable-from-edge' : 'running';
    }
    if (script.stopped.includes(machine)) return ownerStopped === 'gone' ? 'gone' : 'stopped';
    return isConfirmedGone(machine) ? 'gone' : 'unlisted';
  };
  const liveness: RouteParts['liveness'] & OwnerFinderParts['liveness'] = {
    of: stateOf,
    peer,
    isConfirmedGone,
    listing: (machine) => {
      if (lists.includes(machine)) return 'running';
      return script.stopped.includes(machine) ? 'stopped' : 'none';
    },
    versionOf: (machine) => (script.olderVersion.includes(machine) ? 1 : PROTOCOL_VERSION),
    isFleetProbed: () => script.isFleetProbed,
  };
  const candidates = (): PlacementCandidate[] =>
    lists
      .filter((machine) => !script.missingHeartbeats.includes(machine))
      .map((machine) => ({
        machine,
        region: undefined,
        takesSessions: !surroundings.isDraining(machine),
      }));
  const claimResolver = createClaimResolver({
    self,
    store,
    clock,
    isReady: () => true,
    pendingClaimOf: (key) => bindings.pendingClaimOf(key),
  });
  const peers = createModelPeers({ script, claimResolver, reach });
  const bindings = createBindings({
    metrics: nullMetrics,
    self,
    store,
    peers,
    clock,
    ttlMs: TTL_MS,
    onFailure: throwStoreFailure,
    onConflict: () => undefined,
  });
  const ownerParts: OwnerFinderParts = {
    self,
    hints,
    store,
    replays,
    directory,
    liveness,
    peers,
    clock,
    isInFlight: (key) => bindings.isInFlight(key),
    onDisowned: (key, machine) => bindings.dropCopy(key, machine),
  };
  const decisions: Decision[] = [];
  const routing: Omit<RouteParts, 'owners'> = {
    self,
    readIds: createRequestIdReader(PROTOCOLS, { hints }),
    namedByCookie: undefined,
    liveness,
    place: createPlacement({
      self,
      region: undefined,
      scope: undefined,
      liveness: { candidates },
      takesSessions: () => !script.isDraining,
    }),
    directory,
    notAccepting: () => (script.isDraining ? 'draining' : undefined),
    policy: { ownerGone, unknownSession, replays },
    replayMaxBodyBytes: REPLAY_MAX_BODY_BYTES,
  };
  const routerAsking = (asked: OwnerFinderParts['peers']): Router =>
    new Router({ ...routing, owners: new OwnerFinder({ ...ownerParts, peers: asked }) });
  const actionFor = createActions({ directory, replayTimeoutMs: 10_000 });
  return {
    script,
    store: memory,
    router: routerAsking(peers),
    actionFor,
    decisions,
    explain: createExplain({
      self,
      // Its peer lookups must not appear among the lookups of the request.
      router: routerAsking(createModelPeers({ script, claimResolver, reach })),
      actionFor,
      protectedNames: new Set(),
      mayHaveIdInBody: () => false,
    }),
    responses: new AppResponses(
      createDiscoverer(PROTOCOLS, { hints, self, clock, createId: () => 'token' }),
      bindings,
    ),
    bindings,
    claimResolver,
    lookups: peers.lookups,
    announced: peers.announced,
    considersGone: (machine) => stateOf(machine) === 'gone',
    idle: async () => {
      await bindings.stop();
      await peers.idle();
    },
  };
}

function peerNamed(machine: MachineId): Peer {
  return { machine, host: machine, port: 1 };
}

function throwStoreFailure({ operation, error: cause }: StoreFailure): void {
  throw new Error(`${operation} failed`, { cause });
}
