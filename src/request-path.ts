/** Assembles the request path: everything between the listeners and the store. */
import { randomUUID } from 'node:crypto';
import { createUndiciLoader, isSharedStore, type AdapterParts } from './adapters.ts';
import { createAffinityCookie, type AffinityCookie } from './affinity/affinity-cookie.ts';
import type { NotTaking } from './affinity/decide.ts';
import { createExtractor } from './affinity/extract.ts';
import { createHintRemover } from './affinity/hint.ts';
import { createLearner } from './affinity/learn.ts';
import { namesReadOfRequests } from './affinity/request-names.ts';
import { createPathMask } from './affinity/path-mask.ts';
import type { Protocol } from './affinity/protocol.ts';
import type { MachineId, SessionKey } from './affinity/session.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config/config.ts';
import { yieldTo } from './fleet/conflict.ts';
import type { Draining } from './draining.ts';
import type { Directory } from './fleet/directory.ts';
import { createBindingsService } from './fleet/bindings-service.ts';
import { createPeerService } from './fleet/peer-service.ts';
import { createPeers, type Peers } from './fleet/peers.ts';
import type { UpstreamHealth } from './health/upstream-health.ts';
import { createForwardWatch } from './fleet/forward-watch.ts';
import { createSilences, type Silences } from './fleet/silences.ts';
import { BufferBudget } from './http/buffer-budget.ts';
import { DEFAULT_LIMITS, FORWARD_BYTES, FORWARD_FIELDS, type Limits } from './http/limits.ts';
import { ReadBuffers } from './http/read-buffers.ts';
import { Sweep } from './http/sweep.ts';
import { UpstreamPool, type UpstreamPoolOptions } from './http/upstream-pool.ts';
import { createAnswers } from './proxy/answers.ts';
import { createBindings, type Bindings } from './proxy/bindings.ts';
import { createExplain, type Explain } from './proxy/explain.ts';
import { createDetours } from './proxy/detours.ts';
import { EDGE_NAMES } from './proxy/edge-fields.ts';
import { createHandler, type HandlerParts } from './proxy/handler.ts';
import { createFaultReport } from './proxy/fault-report.ts';
import { createListeners, type Listeners } from './proxy/listeners.ts';
import { createObserver } from './proxy/observer.ts';
import { createOwnerFinder, type OwnerFinderParts } from './proxy/owner.ts';
import { createPeerUpstreams } from './proxy/peer-upstreams.ts';
import { createPresenceOf } from './proxy/presence.ts';
import { createStoreFailureReport } from './proxy/store-failures.ts';
import type { ProxyParts } from './proxy/proxied-request.ts';
import { createVia } from './proxy/via.ts';
import { createRequestLog } from './request-line.ts';
import type { SessionStore } from './store/store.ts';

export interface RequestPathParts extends AdapterParts {
  readonly config: Config;
  readonly store: SessionStore;
  readonly directory: Directory;
  readonly draining: Pick<Draining, 'state'>;
  /** Whether as many sessions live here as may. */
  readonly isFull: () => boolean;
  readonly upstreamHealth: Pick<UpstreamHealth, 'isUp' | 'noteRefused'>;
  /** Whether this Machine can tell its peers what it owns, and what not. */
  readonly isReadyForPeers: () => boolean;
}

export interface RequestPath {
  readonly listeners: Listeners;
  readonly explain: Explain;
  /** Requests and tunnels under way. */
  busyCount(): number;
  /** Breaks off what is under way, and waits for the writes. */
  stop(): Promise<void>;
}

/** Connecting on loopback or over 6PN takes milliseconds; beyond this, in ms, nobody is there. */
const CONNECT_TIMEOUT_MS = 5_000;

export function createRequestPath(parts: RequestPathParts): RequestPath {
  const { config, clock, metrics } = parts;
  const self = config.identity.machine;
  const silences = createSilences({ clock });
  const detours = createDetours(clock);
  const peers = createFleetPeers(parts, self, silences);
  const bindings = createFleetBindings(parts, self, peers);
  const engine = createEngine(parts);
  const learner = createLearner(config.protocols, { hints: config.hints, self, clock });
  const upstream = new UpstreamPool({
    ...engine.pool,
    address: () => engine.upstreamAddress,
    selectedNames: learner.teachingNames,
    headTimeoutMs: config.upstreamHeadTimeoutMs,
  });
  const peerUpstreams = createPeerUpstreams({
    directory: parts.directory,
    silences,
    // A peer's own app may be as slow as it is; whether its sidecar is there is watched.
    pool: {
      ...engine.pool,
      headBytes: engine.limits.responseHeadBytes + FORWARD_BYTES,
      fields: engine.limits.fields + FORWARD_FIELDS,
      headTimeoutMs: 0,
    },
  });
  const forwards = createForwardWatch({ clock, ping: (machine) => peers.ping(machine) });
  const owners = {
    self,
    hints: config.hints,
    store: parts.store,
    directory: parts.directory,
    presenceOf: createPresenceOf({
      ...parts,
      silences,
      detours,
      ownerStopped: config.ownerStopped,
    }),
    peers,
    onOwnerTold: (key, owner) => bindings.copy(key, owner),
  } satisfies OwnerFinderParts;
  const cookie = createCookie(config, clock);
  const routing = createHandlerParts(parts, owners, cookie);
  const via = createVia(self);
  const proxy: ProxyParts = {
    handler: createHandler(routing),
    answers: createAnswers(learner, bindings, cookie),
    bindings,
    learner,
    upstreamHost: config.upstreamUrl.host,
    revealingHeaders: engine.revealingHeaders,
    onMoved: (key, machine) => {
      bindings.drop(key, machine);
      // Whoever owns it now is to be known at the next try.
      void peers.ask(key).then((answer) => {
        if (answer.kind === 'owner') bindings.copy(key, answer);
      });
    },
    removeHints: config.hints ? createHintRemover(config.protocols) : (head) => head,
    removeCookie: (rawHeaders) => cookie?.removeFrom(rawHeaders) ?? rawHeaders,
    upstream,
    onRefused: () => parts.upstreamHealth.noteRefused(),
    onForwarded: (decision) => detours.noteForwarded(decision),
    peers: peerUpstreams,
    watchForward: (machine, onUnresponsive) => forwards.begin(machine, onUnresponsive),
    via,
    createRequestId: createRequestIds(),
    clock,
    observer: createRequestObserver(parts),
    onFault: engine.pool.onFault,
  };
  const told = createBindingsService({ ...parts, self });
  const listeners = createListeners({
    self,
    proxy,
    via,
    budget: engine.pool.budget,
    limits: engine.limits,
    namesRead: [...namesReadOfRequests(config.protocols), ...EDGE_NAMES],
    peerService: createPeerService({
      self,
      store: parts.store,
      directory: parts.directory,
      clock,
      isReady: parts.isReadyForPeers,
      ...(!isSharedStore(config.store) && { bindings: told }),
      onHeard: (machine) => silences.noteLife(machine),
      onConflict: () => metrics.claimConflict(),
      onError: (error) =>
        parts.logger.warn({ err: error }, 'could not answer a question of a peer in full'),
    }),
    isPeerAddress: (address) => parts.directory.lists(address),
    lookForNewPeers: () => parts.directory.lookAgain(),
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

  async function stop(): Promise<void> {
    listeners.edge.destroyAll();
    listeners.peer.destroyAll();
    forwards.stop();
    told.stop();
    await Promise.all([upstream.close(), peerUpstreams.close()]);
    await bindings.stop();
    await peers.stop();
  }

  const explain = createExplain({
    routing,
    owners,
    clock,
    protectedNames: engine.protectedNames,
  });
  const busyCount = (): number => listeners.edge.busyCount() + listeners.peer.busyCount();
  return { listeners, explain, busyCount, stop };
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

function createFleetPeers(parts: RequestPathParts, self: MachineId, silences: Silences): Peers {
  const { store, directory, clock, random, logger, metrics } = parts;
  return createPeers({
    self,
    directory,
    clock,
    random,
    silences,
    onOutranked: (key, winner) => {
      metrics.claimConflict();
      yieldTo(store, self, key, winner).catch((error: unknown) =>
        logger.warn({ err: error, session: key }, 'could not release a session that a peer owns'),
      );
    },
    onQuestion: metrics.peerQuestion,
    onAnnouncementsLost: metrics.announcementsDropped,
    loadUndici: createUndiciLoader(logger),
  });
}

function createFleetBindings(parts: RequestPathParts, self: MachineId, peers: Peers): Bindings {
  const { store, clock, logger, metrics, config } = parts;
  return createBindings({
    self,
    store,
    peers,
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

function createHandlerParts(
  parts: RequestPathParts,
  owners: OwnerFinderParts,
  cookie: AffinityCookie | undefined,
): HandlerParts {
  const { config, directory, metrics } = parts;
  return {
    self: config.identity.machine,
    extract: createExtractor(config.protocols, { hints: config.hints }),
    owners: createOwnerFinder(owners),
    namedByCookie: cookie?.read,
    presenceOf: owners.presenceOf,
    directory,
    notTaking: () => whyNotTaking(parts),
    policy: {
      ownerGone: config.ownerGone,
      unknownSession: config.unknownSession,
      replays: config.replayCacheable ? 'cacheable' : 'resilient',
    },
    replayTimeoutMs: config.replayTimeoutMs,
    replayMaxBodyBytes: config.replayMaxBodyBytes,
    onDecided: ({ kind, why }) => metrics.requestDecided(kind, why),
    onReplayFailed: metrics.replayFailed,
  };
}

/** An operator's drain takes precedence over capacity and health. */
function whyNotTaking(parts: RequestPathParts): NotTaking | undefined {
  const { draining, isFull, upstreamHealth } = parts;
  if (draining.state() !== 'taking') return 'draining';
  if (isFull()) return 'full';
  return upstreamHealth.isUp() ? undefined : 'upstream-down';
}

function createRequestObserver({
  logger,
  metrics,
  clock,
  config,
}: RequestPathParts): ReturnType<typeof createObserver> {
  const logRequest = createRequestLog(logger, clock, createPathMask(config.protocols));
  return createObserver({ logger, logRequest, metrics });
}

/** The fields that carry ids, in requests or in responses. */
function sessionHeadersOf(protocols: readonly Protocol[]): ReadonlySet<string> {
  const names = protocols.flatMap(({ sources, lessons }) => [
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
