/**
 * One Machine without a network: the real request path and the real keeper of its bindings, between
 * a wire, an app and peers that do what a few values say.
 */
import type { Decision } from '../../../src/routing/decision.ts';
import type { LivenessState } from '../../../src/fleet/liveness.ts';
import { createRequestIdReader } from '../../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../../src/protocols/discoveries.ts';
import type { BindingOrigin, MachineId, SessionKey } from '../../../src/session.ts';
import { SIMULTANEOUS_MS } from '../../../src/fleet/claims.ts';
import type { Peer } from '../../../src/fleet/directory.ts';
import type { PlacementCandidate } from '../../../src/fleet/liveness.ts';
import { PROTOCOL_VERSION } from '../../../src/fleet/messages.ts';
import { createClaimResolver, type ClaimResolver } from '../../../src/fleet/claim-resolver.ts';
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

/** A binding that is in the store before the request comes. */
export interface Row {
  readonly id: string;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  readonly generation: number;
}

/** How the app beside the sidecar answers, whatever it is asked. */
export interface AppScript {
  readonly status: number;
  /** An id that it mints in the `mcp-session-id` of its answer. */
  readonly mints: string | undefined;
  /** It routes by itself: its answer tells the edge to replay, in these words. */
  readonly replays: string | undefined;
}

export interface MachineScript {
  readonly machine: MachineId;
  readonly rows: readonly Row[];
  readonly app: AppScript;
  /** Destroyed for good, so that neither the edge nor a peer reaches it. */
  readonly isGone: boolean;
  /** The edge delivers to it. */
  readonly isReachable: boolean;
  /** It answers its peers: questions, announcements and forwards. */
  readonly answersPeers: boolean;
  readonly isDraining: boolean;
  /** Its store can't answer a lookup now. */
  readonly isStoreBusy: boolean;
  /** The other Machines that its directory lists. */
  readonly lists: readonly MachineId[];
  /** Its directory can't be read: there may be Machines that it does not list. */
  readonly isDirectoryFailing: boolean;
  /** Of those who are gone, its directory has confirmed it. */
  readonly hasConfirmedTheGone: boolean;
  /** Of those that its directory does not list, it has them deployed and not running for long. */
  readonly stopped: readonly MachineId[];
  /** Whom it has just met without an answer, rightly or not any more. */
  readonly silent: readonly MachineId[];
  /** To whom the edge could not deliver just now, and the private network could. */
  readonly detoured: readonly MachineId[];
  /** Whose heartbeats it has missed, rightly or not any more. */
  readonly unresponsive: readonly MachineId[];
  /** Who has told it that its sidecar is of an older version. */
  readonly old: readonly MachineId[];
  /** Each peer has answered it, or counts as silent. */
  readonly isSettled: boolean;
  /** What peers answer in place of what they know: for worlds in which nothing fits together. */
  readonly told: PeerLookup | undefined;
}

/** What the Machines of a world share. */
export interface Surroundings {
  readonly ownerGone: 'reject' | 'adopt';
  readonly ownerStopped: 'wake' | 'gone';
  readonly unknownSession: 'serve' | 'reject';
  readonly replays: 'resilient' | 'cacheable';
  readonly hints: boolean;
  readonly isGone: (machine: MachineId) => boolean;
  readonly isDraining: (machine: MachineId) => boolean;
  /** The other Machine, if it answers that peer. */
  readonly reach: (from: MachineId, to: MachineId) => ModelMachine | undefined;
}

export interface ModelMachine {
  readonly script: MachineScript;
  readonly store: SessionStore;
  readonly router: Router;
  readonly actionFor: (routed: Routed) => Action;
  /** What was decided here, in order. */
  readonly decided: Decision[];
  readonly explain: Explain;
  readonly answers: AppResponses;
  readonly bindings: Bindings;
  readonly keeper: ClaimResolver;
  /** What its peers have answered, in order. */
  readonly heard: readonly PeerLookup[];
  /** What it has told its peers to be its own. */
  readonly announced: ReadonlySet<SessionKey>;
  /** It takes that Machine for gone. */
  isForGone(machine: MachineId): boolean;
  /** All that was begun is written, and all that was announced is heard. */
  settled(): Promise<void>;
}

export const TTL_MS = 600_000;
export const REPLAY_MAX_BODY_BYTES = 1_000_000;
/** The bindings of the start are older than what the request brings about. */
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
    script.hasConfirmedTheGone && isGone(machine);
  const of = (machine: MachineId): LivenessState => {
    if (lists.includes(machine)) {
      if (script.silent.includes(machine)) return 'unresponsive';
      return script.detoured.includes(machine) ? 'unreachable-from-edge' : 'running';
    }
    if (script.stopped.includes(machine)) return ownerStopped === 'gone' ? 'gone' : 'stopped';
    return isConfirmedGone(machine) ? 'gone' : 'unlisted';
  };
  const liveness: RouteParts['liveness'] & OwnerFinderParts['liveness'] = {
    of,
    peer,
    isConfirmedGone,
    listing: (machine) => {
      if (lists.includes(machine)) return 'running';
      return script.stopped.includes(machine) ? 'stopped' : 'none';
    },
    versionOf: (machine) => (script.old.includes(machine) ? 1 : PROTOCOL_VERSION),
    isFleetProbed: () => script.isSettled,
  };
  const candidates = (): PlacementCandidate[] =>
    lists
      .filter((machine) => !script.unresponsive.includes(machine))
      .map((machine) => ({
        machine,
        region: undefined,
        takesSessions: !surroundings.isDraining(machine),
      }));
  const keeper = createClaimResolver({
    self,
    store,
    clock,
    isReady: () => true,
    pendingClaimOf: (key) => bindings.pendingClaimOf(key),
  });
  const peers = createModelPeers({ script, keeper, reach });
  const bindings = createBindings({
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
  const decided: Decision[] = [];
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
    decided,
    explain: createExplain({
      self,
      // Whom it asks is not what the request's own way has heard.
      router: routerAsking(createModelPeers({ script, keeper, reach })),
      actionFor,
      protectedNames: new Set(),
    }),
    answers: new AppResponses(createDiscoverer(PROTOCOLS, { hints, self, clock }), bindings),
    bindings,
    keeper,
    heard: peers.heard,
    announced: peers.announced,
    isForGone: (machine) => of(machine) === 'gone',
    settled: async () => {
      await bindings.stop();
      await peers.settled();
    },
  };
}

function peerNamed(machine: MachineId): Peer {
  return { machine, host: machine, port: 1 };
}

function throwStoreFailure({ operation, error: cause }: StoreFailure): void {
  throw new Error(`${operation} failed`, { cause });
}
