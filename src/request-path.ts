/** The parts of the request path, put together: everything between the listeners and the store. */
import { randomUUID } from 'node:crypto';
import type { AdapterParts } from './adapters.ts';
import { createAffinityCookie, type AffinityCookie } from './affinity/affinity-cookie.ts';
import type { NotTaking } from './affinity/decide.ts';
import { createExtractor } from './affinity/extract.ts';
import { createHintRemover, type RemoveHints } from './affinity/hint.ts';
import { createLearner } from './affinity/learn.ts';
import { createPathMask } from './affinity/path-mask.ts';
import type { Protocol } from './affinity/protocol.ts';
import type { MachineId, SessionKey } from './affinity/session.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config/config.ts';
import { yieldTo } from './fleet/conflict.ts';
import type { Draining } from './draining.ts';
import type { Directory } from './fleet/directory.ts';
import { createPeerService } from './fleet/peer-service.ts';
import { createPeers, type Peers } from './fleet/peers.ts';
import type { UpstreamHealth } from './health/upstream-health.ts';
import { createSilences, type Silences } from './fleet/silences.ts';
import { createHttp1Upstream } from './http1/client.ts';
import { createAnswers } from './proxy/answers.ts';
import { createBindings, type Bindings } from './proxy/bindings.ts';
import { createExplain, type Explain } from './proxy/explain.ts';
import { createHandler, type HandlerParts } from './proxy/handler.ts';
import { HeadFlusher } from './proxy/head-flusher.ts';
import { createHttpWire, type HttpWire } from './proxy/http.ts';
import { createObserver } from './proxy/observer.ts';
import { createOwnerFinder, type OwnerFinderParts } from './proxy/owner.ts';
import { createPeerUpstreams } from './proxy/peer-upstreams.ts';
import { createPresenceOf } from './proxy/presence.ts';
import { createStoreFailureReport } from './proxy/store-failures.ts';
import { CONNECT_TIMEOUT_MS } from './proxy/upstream.ts';
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
  readonly wire: HttpWire;
  readonly explain: Explain;
  /** Breaks off what is under way, and waits for the writes. */
  stop(): Promise<void>;
}

export function createRequestPath(parts: RequestPathParts): RequestPath {
  const { config, clock } = parts;
  const self = config.identity.machine;
  const silences = createSilences({ clock });
  const peers = createFleetPeers(parts, self, silences);
  const bindings = createFleetBindings(parts, self, peers);
  const upstream = createHttp1Upstream({
    origin: config.upstreamUrl.origin,
    headTimeoutMs: config.upstreamHeadTimeoutMs,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    clock,
  });
  const peerUpstreams = createPeerUpstreams({
    directory: parts.directory,
    headTimeoutMs: config.upstreamHeadTimeoutMs,
    clock,
    silences,
  });
  const owners = {
    self,
    store: parts.store,
    directory: parts.directory,
    presenceOf: createPresenceOf({ ...parts, silences, ownerStopped: config.ownerStopped }),
    peers,
    onOwnerTold: (key, owner) => bindings.copy(key, owner),
  } satisfies OwnerFinderParts;
  const learner = createLearner(config.protocols, { hints: config.hints, self, clock });
  const cookie = createCookie(config, clock);
  const routing = createHandlerParts(parts, owners, cookie);
  const wire = createHttpWire({
    self,
    handler: createHandler(routing),
    answers: createAnswers(learner, bindings, cookie),
    bindings,
    learner,
    isEnding: () => parts.draining.state() === 'ending',
    upstreamHost: config.upstreamUrl.host,
    teachingHeaders: teachingHeaders(config.protocols),
    onMoved: (key, machine) => {
      bindings.drop(key, machine);
      // Whoever owns it now is to be known at the next try.
      void peers.ask(key).then((answer) => {
        if (answer.kind === 'owner') bindings.copy(key, answer);
      });
    },
    removeHints: createRequestCleaner(config, cookie),
    upstream,
    flusher: new HeadFlusher(),
    onRefused: () => parts.upstreamHealth.noteRefused(),
    peers: peerUpstreams,
    clock,
    observer: createRequestObserver(parts),
    peerService: createPeerService({
      self,
      store: parts.store,
      directory: parts.directory,
      clock,
      isReady: parts.isReadyForPeers,
      onHeard: (machine) => silences.noteLife(machine),
      onConflict: () => parts.metrics.claimConflict(),
      onError: (error) => parts.logger.warn({ err: error }, 'a peer could not be answered in full'),
    }),
    isPeerAddress: (address) => parts.directory.lists(address),
    lookForNewPeers: () => parts.directory.lookAgain(),
  });

  async function stop(): Promise<void> {
    for (const exchange of wire.open) exchange.destroy();
    await Promise.all([upstream.close(), peerUpstreams.close()]);
    await bindings.stop();
    await peers.stop();
  }

  return { wire, explain: createExplain({ routing, owners, clock }), stop };
}

function createCookie(config: Config, clock: Clock): AffinityCookie | undefined {
  const { affinityCookie: name, identity, store } = config;
  if (name === undefined) return undefined;
  const { ttlMs } = store;
  return createAffinityCookie({ name, self: identity.machine, ttlMs, now: () => clock.now() });
}

/** What the sidecar has added for the client to bring along is not the app's to see. */
function createRequestCleaner(
  { hints, protocols }: Config,
  cookie: AffinityCookie | undefined,
): RemoveHints {
  const removeHints: RemoveHints = hints ? createHintRemover(protocols) : (head) => head;
  if (cookie === undefined) return removeHints;
  return (head, whole) => {
    const { target, rawHeaders } = removeHints(head, whole);
    return { target, rawHeaders: cookie.removeFrom(rawHeaders) };
  };
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
        logger.warn({ err: error, session: key }, 'a binding that a peer keeps was not given up'),
      );
    },
    onQuestion: metrics.peerQuestion,
    onAnnouncementsLost: metrics.announcementsDropped,
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

/** The will of people comes before what this Machine can. */
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
  return createObserver({ logger, logRequest, metrics, createRequestId: createRequestIds() });
}

function teachingHeaders(protocols: readonly Protocol[]): ReadonlySet<string> {
  const lessons = protocols.flatMap((protocol) => protocol.lessons);
  return new Set(lessons.flatMap((lesson) => (lesson.from === 'header' ? [lesson.name] : [])));
}

/** Where the edge has given a request no id: random once, and then counted, as only the log wants it. */
function createRequestIds(): () => string {
  const prefix = randomUUID();
  let count = 0;
  return () => `${prefix}-${(count += 1)}`;
}
