/** Assembles the request path: everything between the listeners and the store. */
import { BufferBudget, ReadBuffers } from '../http/buffers.ts';
import { createPathMask } from '../protocols/id-locations.ts';
import { randomUUID } from 'node:crypto';
import { createUndiciLoader, isSharedStore, type AdapterParts } from './adapters.ts';
import { createAffinityCookie, type AffinityCookie } from '../protocols/affinity-cookie.ts';
import type { NotAccepting } from '../routing/decision.ts';
import { createRequestIdReader } from '../protocols/request-ids.ts';
import { createOwnerHintRemover } from '../protocols/owner-hint.ts';
import { createDiscoverer, headersReadFromRequests } from '../protocols/discoveries.ts';
import type { Protocol } from '../protocols/protocol.ts';
import type { MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Draining } from '../routing/draining.ts';
import type { Directory } from '../fleet/directory.ts';
import {
  createClaimResolver,
  type ClaimResolver,
  type ClaimResolverOptions,
} from '../fleet/claim-resolver.ts';
import { createJoinService } from '../fleet/join/service.ts';
import { BINDINGS_PATH } from '../fleet/join/messages.ts';
import { createPeerService } from '../fleet/peer-service.ts';
import { createPeers, type Peers } from '../fleet/peers.ts';
import type { UpstreamHealth } from '../proxy/upstream-health.ts';
import { createForwardWatchdog } from '../fleet/forward-watchdog.ts';
import { createHeartbeats, type Heartbeats } from '../fleet/heartbeats.ts';
import type { JoinOptions } from '../fleet/join/join.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { PROTOCOL_VERSION, type PeerStatus } from '../fleet/messages.ts';
import { DEFAULT_LIMITS, FORWARD_BYTES, FORWARD_FIELDS, type Limits } from '../http/limits.ts';
import { Sweep } from '../http/sweep.ts';
import { UpstreamPool, type UpstreamPoolOptions } from '../http/upstream-pool.ts';
import { Activity, QUIET_MS } from '../proxy/activity.ts';
import { createAnswers } from '../proxy/answers.ts';
import { createBindings, type Bindings, type BindingsParts } from '../proxy/bindings.ts';
import { createExplain, type Explain } from '../routing/explain.ts';
import { EDGE_NAMES } from '../routing/facts.ts';
import { createActions } from '../routing/respond.ts';
import { Router } from '../routing/route.ts';
import { createFaultReport } from '../proxy/fault-report.ts';
import { createListeners, type Listeners } from '../proxy/listeners.ts';
import { createLetGo, type LetGo } from '../proxy/let-go.ts';
import { createObserver } from '../proxy/observer.ts';
import { createOpenStreams } from '../proxy/open-streams.ts';
import { OwnerFinder } from '../routing/find-owner.ts';
import type { OwnerFinderParts } from '../routing/owner-lookup.ts';
import { createPeerUpstreams } from '../proxy/peer-upstreams.ts';
import { createPlacement } from '../routing/placement.ts';
import { createStoreFailureReport } from '../proxy/store-failures.ts';
import type { ProxyParts } from '../proxy/proxied-request.ts';
import { OlderSessions } from '../proxy/older-sessions.ts';
import { createVia } from '../proxy/via.ts';
import { createRequestLog } from '../proxy/access-log.ts';
import type { OnSessionChanged } from '../sessions/merge.ts';
import type { SessionStore } from '../store/store.ts';

export interface RequestPathParts extends AdapterParts {
  readonly config: Config;
  readonly store: SessionStore;
  readonly directory: Directory;
  readonly liveness: Liveness;
  /** In `run` mode: when the app's process was started, in ms since the epoch. */
  readonly appStartedAt?: number | undefined;
  readonly draining: Pick<Draining, 'state'>;
  /** Whether as many sessions live here as may. */
  readonly isFull: () => boolean;
  readonly upstreamHealth: Pick<UpstreamHealth, 'isUp' | 'noteRefused'>;
  /** Whether this Machine can tell its peers what it owns, and what not. */
  readonly isReadyForPeers: () => boolean;
  /** Whether the public port is open. */
  readonly isServing: () => boolean;
}

export interface RequestPath {
  readonly listeners: Listeners;
  readonly explain: Explain;
  readonly heartbeats: Heartbeats;
  /** An operator has deleted a session, or moved it from one Machine to another. */
  readonly onSessionChanged: OnSessionChanged;
  /** A peer owns what is bound to this Machine too. */
  readonly onContested: JoinOptions['onConflict'];
  /** Requests and tunnels under way. */
  busyCount(): number;
  /** 0: no request is open, and none was for a second. Else the time, in ms, after which to ask again. */
  msUntilQuiet(): number;
  /** Breaks off what is under way, and waits for the writes. */
  stop(): Promise<void>;
}

/** Connecting on loopback or over 6PN takes milliseconds; beyond this, in ms, nobody is there. */
const CONNECT_TIMEOUT_MS = 5_000;

export function createRequestPath(parts: RequestPathParts): RequestPath {
  const { config, clock, directory, liveness } = parts;
  const self = config.identity.machine;
  const olderSessions = createOlderSessions(parts, self);
  const openStreams = createOpenStreams(parts);
  const closeStreamsOf = createLetGo({ ...parts, streams: openStreams });
  const letGo: LetGo = (key, release) => {
    peers.retract(key);
    closeStreamsOf(key, release);
  };
  const keeper = createFleetKeeper(parts, self, {
    letGo,
    isVoid: (binding) => olderSessions.isVoid(binding),
    pendingClaimOf: (key) => bindings.pendingClaimOf(key),
  });
  const peers = createFleetPeers(parts, self, keeper);
  const bindings = createFleetBindings(parts, self, {
    peers,
    // What is closing already was released before.
    onLost: (key, release) => {
      if (openStreams.count(key) > 0) letGo(key, release);
    },
  });
  const engine = createEngine(parts);
  const learner = createDiscoverer(config.protocols, { hints: config.hints, self, clock });
  const upstream = new UpstreamPool({
    ...engine.pool,
    address: () => engine.upstreamAddress,
    selectedNames: learner.revealingHeaders,
    headTimeoutMs: config.upstreamHeadTimeoutMs,
  });
  const peerUpstreams = createPeerUpstreams({
    directory,
    liveness,
    // A peer's own app may be as slow as it is; whether its sidecar is there is watched.
    pool: {
      ...engine.pool,
      headBytes: engine.limits.responseHeadBytes + FORWARD_BYTES,
      fields: engine.limits.fields + FORWARD_FIELDS,
      headTimeoutMs: 0,
    },
  });
  const forwards = createForwardWatchdog({ clock, ping: (machine) => peers.ping(machine) });
  const owners = {
    self,
    hints: config.hints,
    replays: replaysOf(config),
    store: parts.store,
    directory,
    liveness,
    peers,
    clock,
    isInFlight: (key) => bindings.isInFlight(key),
    onDisowned: (key, machine) => bindings.drop(key, machine),
    // Others may share a database without being a fleet.
    onOwnPast:
      config.fleet.kind === 'off' && !parts.store.isShared
        ? (binding) => bindings.restore(binding)
        : undefined,
  } satisfies OwnerFinderParts;
  const cookie = createCookie(config, clock);
  const router = createRouter(parts, owners, cookie);
  const actionFor = createActions({ directory, replayTimeoutMs: config.replayTimeoutMs });
  const via = createVia(self);
  const activity = new Activity(clock);
  const proxy: ProxyParts = {
    self,
    activity,
    olderSessions,
    router,
    actionFor,
    onReplayFailed: parts.metrics.replayFailed,
    answers: createAnswers(learner, bindings, cookie),
    bindings,
    openStreams,
    learner,
    upstreamHost: config.upstreamUrl.host,
    revealingHeaders: engine.revealingHeaders,
    onMoved: (key, machine) => {
      bindings.drop(key, machine);
      // Whoever owns it now is to be known at the next try.
      void peers.ask(key);
    },
    removeHints: config.hints ? createOwnerHintRemover(config.protocols) : (head) => head,
    removeCookie: (rawHeaders) => cookie?.removeFrom(rawHeaders) ?? rawHeaders,
    upstream,
    onRefused: () => parts.upstreamHealth.noteRefused(),
    onForwarded: (decision) => {
      // Not of a detour itself: it would never end while there are requests.
      if (decision.kind === 'forward' && decision.why === 'owner-unreachable')
        liveness.onUnreachableFromEdge(decision.to);
    },
    peers: peerUpstreams,
    watchForward: (machine, onUnresponsive) => forwards.begin(machine, onUnresponsive),
    via,
    trustsClientIp: config.identity.app !== undefined,
    createRequestId: createRequestIds(),
    clock,
    observer: createRequestObserver(parts),
    onFault: engine.pool.onFault,
  };
  const joinService = createJoinService({ ...parts, self });
  const listeners = createListeners({
    self,
    proxy,
    via,
    budget: engine.pool.budget,
    limits: engine.limits,
    namesRead: [...headersReadFromRequests(config.protocols), ...EDGE_NAMES],
    peerService: createPeerService({
      self,
      claimResolver: keeper,
      directory,
      onRequestFrom: (machine) => liveness.onRequestFrom(machine),
      onStatus: (machine, status) => liveness.onStatus(machine, status),
      onAnnounced: (key, machine) => peers.onAnnounced(key, machine),
      status: () => statusOf(parts),
      handlers: isSharedStore(config.store) ? {} : { [BINDINGS_PATH]: joinService.respond },
    }),
    isPeerAddress: (address) => directory.isPeerAddress(address),
    isAddressOf: (machine, address) => directory.isAddressOf(machine, address),
    lookForNewPeers: () => directory.findNewMachines(),
    http: {
      protectedNames: engine.protectedNames,
      trailers: engine.pool.trailers,
      sweep: engine.pool.sweep,
      clock,
      isEnding: () => parts.draining.state() === 'ending',
      onFault: engine.pool.onFault,
      onRefusedConnection: createConnectionReport(parts, engine.limits),
    },
  });

  const heartbeats = createHeartbeats({ directory, peers, clock, status: () => statusOf(parts) });

  async function stop(): Promise<void> {
    openStreams.stop();
    listeners.edge.destroyAll();
    listeners.peer.destroyAll();
    forwards.stop();
    const beaten = heartbeats.stop();
    joinService.stop();
    await Promise.all([upstream.close(), peerUpstreams.close()]);
    await bindings.stop();
    await peers.stop();
    await beaten;
    await keeper.idle();
  }

  const explain = createExplain({
    self,
    router,
    actionFor,
    protectedNames: engine.protectedNames,
  });
  const busyCount = (): number => listeners.edge.busyCount() + listeners.peer.busyCount();
  const onSessionChanged: OnSessionChanged = (key, from, to) => {
    const isOurs = from === undefined ? openStreams.count(key) > 0 : from === self;
    if (isOurs && to !== self) letGo(key, { to, why: to === undefined ? 'deleted' : 'moved' });
  };
  const onContested: JoinOptions['onConflict'] = (ours, { key, machine, ...theirs }) => {
    // Whoever owns it by its claim says so, and the other one gives it up.
    if (!olderSessions.isVoid(ours)) peers.announce(ours, ours.expiresAt - clock.now());
    else void keeper.onAnnouncement(key, machine, { ...theirs, origin: 'adopted' });
  };
  // The end of a response may be on its way still.
  const msUntilQuiet = (): number =>
    listeners.edge.busyCount() > 0 ? QUIET_MS : activity.msUntilQuiet();
  return {
    ...{ listeners, explain, heartbeats, onSessionChanged, onContested },
    ...{ busyCount, msUntilQuiet, stop },
  };
}

interface Engine {
  readonly limits: Limits;
  /** What the pools to the app and to peers share, and the listeners in part. */
  readonly pool: Omit<UpstreamPoolOptions, 'address' | 'headTimeoutMs' | 'onDialled'>;
  readonly upstreamAddress: { readonly host: string; readonly port: number };
  /** Names, in lower case, of fields that reveal ids to clients. */
  readonly revealingHeaders: ReadonlySet<string>;
  /** Names, in lower case, that a client's `Connection` may not name. */
  readonly protectedNames: ReadonlySet<string>;
}

/** What both sides of the engine share. */
function createEngine({ config, clock, logger, metrics }: RequestPathParts): Engine {
  const limits: Limits = {
    ...DEFAULT_LIMITS,
    headBytes: config.maxHeadBytes,
    responseHeadBytes: Math.max(DEFAULT_LIMITS.responseHeadBytes, config.maxHeadBytes),
    targetBytes: Math.max(DEFAULT_LIMITS.targetBytes, config.maxHeadBytes / 2),
    connections: config.maxConnections,
    upstreamConnections: config.maxConnections,
    totalBufferBytes: config.maxBufferedBytes,
    stallTimeoutMs: config.stallTimeoutMs,
  };
  const sessionHeaders = sessionHeadersOf(config.protocols);
  const reportFault = createFaultReport(clock, ({ error, unreported }) =>
    logger.error({ err: error, unreported }, 'a connection was ended by an unexpected error'),
  );
  return {
    limits,
    pool: {
      headBytes: limits.responseHeadBytes,
      fields: limits.fields,
      maxConnections: limits.upstreamConnections,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      trailers: {
        maxBytes: limits.headBytes,
        maxFields: limits.fields,
        forbidden: sessionHeaders,
      },
      buffers: new ReadBuffers(),
      budget: new BufferBudget(limits.totalBufferBytes),
      sweep: new Sweep(clock),
      onFault: (error) => {
        metrics.connectionFault();
        reportFault(error);
      },
    },
    upstreamAddress: addressOf(config.upstreamUrl),
    revealingHeaders: new Set([...sessionHeaders, 'set-cookie', 'fly-replay', 'fly-replay-cache']),
    protectedNames: sessionHeaders,
  };
}

/** One line at once, and then one in ten seconds, as there may be thousands. */
function createConnectionReport(
  { clock, logger, metrics }: RequestPathParts,
  { connections }: Limits,
): () => void {
  let reportedAt = -Infinity;
  return () => {
    metrics.connectionRefused();
    const now = clock.monotonicMs();
    if (now - reportedAt < CONNECTION_REPORT_MS) return;
    reportedAt = now;
    logger.warn({ limit: connections }, 'refused a connection: MAX_CONNECTIONS are open');
  };
}

const CONNECTION_REPORT_MS = 10_000;

/** An IPv6 address stands in brackets in a URL only. */
function addressOf({ hostname, port }: URL): { host: string; port: number } {
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return { host, port: port === '' ? 80 : Number(port) };
}

function createCookie(config: Config, clock: Clock): AffinityCookie | undefined {
  const { affinityCookie: name, identity, store } = config;
  if (name === undefined) return undefined;
  const { ttlMs } = store;
  return createAffinityCookie({ name, self: identity.machine, ttlMs, now: () => clock.now() });
}

function createOlderSessions(
  { appStartedAt, logger }: RequestPathParts,
  self: MachineId,
): OlderSessions {
  const onFirstDead = (): void =>
    logger.info(
      {},
      'the app refuses sessions older than its process: their clients get "session not found"',
    );
  return new OlderSessions({ self, appStartedAt, onFirstDead });
}

/** Told of what peers claim by questions, announcements, and responses to our own. */
function createFleetKeeper(
  parts: RequestPathParts,
  self: MachineId,
  { letGo, ...hooks }: KeeperHooks,
): ClaimResolver {
  const { store, clock, logger, metrics, isReadyForPeers: isReady } = parts;
  return createClaimResolver({
    ...{ self, store, clock, isReady, ...hooks },
    onConflict: () => metrics.claimConflict(),
    onReleased: (key, to) => letGo(key, { to, why: 'outranked' }),
    onError: (error) => logger.warn({ err: error }, 'could not weigh the claim of a peer'),
  });
}

interface KeeperHooks extends Required<Pick<ClaimResolverOptions, 'pendingClaimOf' | 'isVoid'>> {
  readonly letGo: LetGo;
}

function createFleetPeers(parts: RequestPathParts, self: MachineId, keeper: ClaimResolver): Peers {
  const { directory, liveness, clock, random, logger, metrics } = parts;
  return createPeers({
    self,
    directory,
    clock,
    random,
    liveness,
    onClaim: (key, claimant) => void keeper.onAnnouncement(key, claimant.machine, claimant),
    onOutranked: (key, winner) => void keeper.onAnnouncement(key, winner.machine, winner),
    onQuery: metrics.peerQuery,
    onAnnouncementsLost: metrics.announcementDropped,
    loadUndici: createUndiciLoader(logger),
  });
}

function createFleetBindings(
  parts: RequestPathParts,
  self: MachineId,
  { peers, onLost }: Required<Pick<BindingsParts, 'peers' | 'onLost'>>,
): Bindings {
  const { store, clock, logger, metrics, config } = parts;
  return createBindings({
    self,
    store,
    peers,
    onLost,
    clock,
    ttlMs: config.store.ttlMs,
    onFailure: createStoreFailureReport(clock, ({ error, operation, untold }) =>
      logger.warn({ err: error, operation, untold }, 'store write failed'),
    ),
    onConflict: (session: SessionKey, other: MachineId) => {
      metrics.claimConflict();
      logger.warn({ session, other }, 'the app has minted an id that another Machine had');
    },
  });
}

function createRouter(
  parts: RequestPathParts,
  owners: OwnerFinderParts,
  cookie: AffinityCookie | undefined,
): Router {
  const { config, directory, liveness } = parts;
  const { machine: self, region } = config.identity;
  return new Router({
    self,
    readIds: createRequestIdReader(config.protocols, { hints: config.hints }),
    owners: new OwnerFinder(owners),
    namedByCookie: cookie?.read,
    liveness,
    place: createPlacement({
      self,
      region,
      scope: config.placement,
      liveness,
      takesSessions: () => statusOf(parts).takesSessions,
    }),
    directory,
    notAccepting: () => whyNotTaking(parts),
    policy: {
      ownerGone: config.ownerGone,
      unknownSession: config.unknownSession,
      replays: replaysOf(config),
    },
    replayMaxBodyBytes: config.replayMaxBodyBytes,
  });
}

function replaysOf({ replayCacheable }: Config): 'resilient' | 'cacheable' {
  return replayCacheable ? 'cacheable' : 'resilient';
}

/** What peers are told of this Machine. */
function statusOf(parts: RequestPathParts): PeerStatus {
  const takesSessions = parts.isServing() && whyNotTaking(parts) === undefined;
  return { version: PROTOCOL_VERSION, takesSessions, region: parts.config.identity.region };
}

/** An operator's drain takes precedence over capacity and health. */
function whyNotTaking(parts: RequestPathParts): NotAccepting | undefined {
  const { draining, isFull, upstreamHealth } = parts;
  if (draining.state() !== 'taking') return 'draining';
  if (isFull()) return 'full';
  return upstreamHealth.isUp() ? undefined : 'upstream-down';
}

function createRequestObserver({
  logger,
  metrics,
  config,
}: RequestPathParts): ReturnType<typeof createObserver> {
  const logRequest = createRequestLog(logger, createPathMask(config.protocols));
  return createObserver({ logger, logRequest, metrics });
}

/** The fields that carry ids, in requests or in responses. */
function sessionHeadersOf(protocols: readonly Protocol[]): ReadonlySet<string> {
  const names = protocols.flatMap(({ idLocations: sources, discoveries: lessons }) => [
    ...sources.flatMap((source) => (source.in === 'header' ? [source.name] : [])),
    ...lessons.flatMap((lesson) => (lesson.from === 'header' ? [lesson.name] : [])),
  ]);
  return new Set(['mcp-session-id', 'x-session-id', ...names]);
}

/** For requests that the edge has given no id: random once, and then counted, as only the log uses it. */
function createRequestIds(): () => string {
  const prefix = randomUUID();
  let count = 0;
  return () => `${prefix}-${(count += 1)}`;
}
