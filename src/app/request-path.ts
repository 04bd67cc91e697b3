/** The request path: everything between the listeners and the store. */
import { randomBytes, randomUUID } from 'node:crypto';
import { createForwardWatchdog } from '../fleet/forward-watchdog.ts';
import { createHeartbeats, type Heartbeats } from '../fleet/heartbeats.ts';
import { BINDINGS_PATH } from '../fleet/join/reader.ts';
import { createJoinService } from '../fleet/join/service.ts';
import type { PeerStatus } from '../fleet/messages.ts';
import { createPeerService, type PeerService } from '../fleet/peer-service.ts';
import type { UpstreamPool } from '../http/upstream-pool.ts';
import { createAffinityCookie, type AffinityCookie } from '../protocols/affinity-cookie.ts';
import { createDiscoverer, headersReadFromRequests } from '../protocols/discoveries.ts';
import { createPathMask } from '../protocols/id-locations.ts';
import { createBodyCheck, createRequestIdReader } from '../protocols/request-ids.ts';
import { AUTO } from '../protocols/presets.ts';
import { createOwnerHintRemover } from '../protocols/owner-hint.ts';
import { AppResponses } from '../proxy/app-responses.ts';
import { createListeners, type Listeners } from '../proxy/listeners.ts';
import { createPeerUpstreams, type PeerUpstreams } from '../proxy/peer-attempt.ts';
import type { ProxyParts } from '../proxy/proxy-parts.ts';
import { createRoutingLog } from '../proxy/request-log.ts';
import { QUIET_MS, RequestRecorder } from '../proxy/request-record.ts';
import { SeenProtocols } from '../proxy/seen-protocols.ts';
import { StartGate } from '../proxy/start-gate.ts';
import { TRACED_NAMES } from '../proxy/received-request.ts';
import { createVia } from '../proxy/attempt-request.ts';
import type { Decision, NotAccepting } from '../routing/decision.ts';
import { createExplain, type Explain } from '../routing/explain.ts';
import { EDGE_NAMES } from '../routing/facts.ts';
import { createActions, type ActionFor } from '../routing/respond.ts';
import type { Router } from '../routing/route.ts';
import { isSharedStore } from './adapters.ts';
import {
  OwnedSessions,
  type OwnedSessionsParts,
  createRouter,
  statusOf,
  whyNotAccepting,
  type RoutingParts,
} from './owned-sessions.ts';
import { HttpEngine } from './http-engine.ts';
import { HeldBodies } from '../proxy/held-bodies.ts';
import type { Logger } from '../observability/log.ts';
import type { Tracing } from '../observability/tracing.ts';

interface RequestPathParts extends OwnedSessionsParts, RoutingParts {
  /** For lines about single requests. */
  readonly requestLogger: Logger;
  /** Undefined: there are no traces. */
  readonly tracing: Tracing | undefined;
}

export class RequestPath {
  readonly listeners: Listeners;
  readonly explain: Explain;
  readonly heartbeats: Heartbeats;
  readonly sessions: OwnedSessions;
  readonly seenProtocols: SeenProtocols;
  readonly startGate: StartGate;
  readonly #parts: RequestPathParts;
  readonly #engine: HttpEngine;
  readonly #mayHaveIdInBody: ProxyParts['mayHaveIdInBody'];
  readonly #cookie: AffinityCookie | undefined;
  readonly #router: Router;
  readonly #actionFor: ActionFor;
  readonly #recorder: RequestRecorder;
  readonly #upstream: UpstreamPool;
  readonly #peerUpstreams: PeerUpstreams;
  readonly #forwards: ReturnType<typeof createForwardWatchdog>;
  readonly #joinService: ReturnType<typeof createJoinService>;
  readonly #discoverer: ReturnType<typeof createDiscoverer>;

  constructor(parts: RequestPathParts) {
    const { config, clock, directory, liveness } = parts;
    const { machine: self } = config.identity;
    this.#parts = parts;
    this.sessions = new OwnedSessions(parts);
    this.#mayHaveIdInBody = createBodyCheck(
      config.protocols,
      createRequestIdReader(config.protocols, { hints: config.hints }),
    );
    const { peers } = this.sessions;
    this.#engine = new HttpEngine(parts);
    const { shared, limits } = this.#engine;
    this.startGate = new StartGate({
      budget: shared.budget,
      headBytes: limits.headBytes,
      bodyBytes: limits.connectionBufferBytes,
    });
    this.#cookie = createCookie(parts);
    this.#router = createRouter(parts, this.sessions, this.#cookie);
    this.#actionFor = createActions({ directory, replayTimeoutMs: config.replayTimeoutMs });
    this.seenProtocols = new SeenProtocols({ ...parts, protocols: config.protocols });
    this.#recorder = new RequestRecorder({
      ...parts,
      logger: parts.requestLogger,
      maskPath: createPathMask(config.protocols),
      seenProtocols: this.seenProtocols,
    });
    this.#discoverer = createDiscoverer(config.protocols, {
      ...{ hints: config.hints, self, clock },
      createId: () => randomBytes(16).toString('hex'),
    });
    this.#upstream = this.#engine.poolToApp(this.#discoverer.revealingHeaders);
    const pool = this.#engine.poolToPeer;
    this.#peerUpstreams = createPeerUpstreams({ directory, liveness, pool });
    this.#forwards = createForwardWatchdog({ clock, ping: (machine) => peers.ping(machine) });
    this.#joinService = createJoinService({ ...parts, self });
    this.listeners = this.#createListeners();
    this.heartbeats = createHeartbeats({ directory, peers, clock, status: () => this.status() });
    this.explain = createExplain({
      self,
      router: this.#router,
      actionFor: this.#actionFor,
      protectedNames: this.#engine.sessionHeaders,
      mayHaveIdInBody: this.#mayHaveIdInBody,
    });
  }

  /** Requests and tunnels in flight. */
  busyCount(): number {
    return this.listeners.edge.busyCount() + this.listeners.peer.busyCount();
  }

  /** Why this Machine takes no new sessions; undefined if it does. */
  notAccepting(): NotAccepting | undefined {
    return whyNotAccepting(this.#parts);
  }

  /** 0 if no request was open for a second; else the time, in ms, after which to check again. */
  msUntilQuiet(): number {
    // The end of a response may still be in flight.
    return this.listeners.edge.busyCount() > 0 ? QUIET_MS : this.#recorder.msUntilQuiet();
  }

  /** The status that peers receive from this Machine. */
  status(): PeerStatus {
    return statusOf(this.#parts);
  }

  /** How long no client has used this Machine, in ms. */
  idleMs(): number {
    return this.listeners.edge.busyCount() > 0 ? 0 : this.#recorder.idleMs();
  }

  /** Drops idle connections to peers: they may be dead, as this Machine was suspended. */
  reconnect(): void {
    this.sessions.peers.reconnect();
    this.#peerUpstreams.reconnect();
  }

  /** Aborts requests in flight, and waits for the writes. */
  async stop(): Promise<void> {
    const { openStreams, bindings, peers, claimResolver } = this.sessions;
    openStreams.stop();
    this.listeners.edge.destroyAll();
    this.listeners.peer.destroyAll();
    this.#forwards.stop();
    const beaten = this.heartbeats.stop();
    this.#joinService.stop();
    await Promise.all([this.#upstream.close(), this.#peerUpstreams.close()]);
    await bindings.stop();
    await peers.stop();
    await beaten;
    await claimResolver.idle();
  }

  #createListeners(): Listeners {
    const { config, clock, directory, draining, tracing } = this.#parts;
    const { shared, limits, sessionHeaders } = this.#engine;
    return createListeners({
      self: config.identity.machine,
      proxy: this.#createProxyParts(),
      limits,
      budget: shared.budget,
      // Also of protocols that are not listed, to name their presets.
      namesRead: [
        ...headersReadFromRequests([...config.protocols, ...AUTO]),
        ...EDGE_NAMES,
        ...(tracing ? TRACED_NAMES : []),
      ],
      peerService: this.#createPeerService(),
      isPeerAddress: (address) => directory.isPeerAddress(address),
      isAddressOf: (machine, address) => directory.isAddressOf(machine, address),
      findNewPeers: () => directory.findNewMachines(),
      http: {
        protectedNames: sessionHeaders,
        trailers: shared.trailers,
        sweep: shared.sweep,
        clock,
        isEnding: () => draining.state() === 'ending',
        onAborting: () => this.#recorder.stop(),
        onFault: shared.onFault,
        onRefusedConnection: this.#engine.connectionReport(),
      },
    });
  }

  #createProxyParts(): ProxyParts {
    const { config, clock, logger, metrics, upstreamHealth, tracing } = this.#parts;
    const { olderSessions, openStreams, bindings } = this.sessions;
    const cookie = this.#cookie;
    const self = config.identity.machine;
    return {
      ...{ self, clock, metrics, olderSessions, openStreams, bindings, tracing },
      router: this.#router,
      mayHaveIdInBody: this.#mayHaveIdInBody,
      heldBodies: new HeldBodies(this.#engine.shared.budget, clock),
      startGate: this.startGate,
      actionFor: this.#actionFor,
      traceFor: createRoutingLog(logger),
      recorder: this.#recorder,
      discoverer: this.#discoverer,
      appResponses: new AppResponses(this.#discoverer, bindings, cookie),
      upstream: this.#upstream,
      peers: this.#peerUpstreams,
      revealingHeaders: this.#engine.revealingHeaders,
      upstreamHost: config.upstreamUrl.host,
      via: createVia(self),
      removeHints: createOwnerHintRemover(config.protocols, { hints: config.hints }),
      removeCookie: (rawHeaders) => cookie?.removeFrom(rawHeaders) ?? rawHeaders,
      watchForward: (machine, onUnresponsive) => this.#forwards.begin(machine, onUnresponsive),
      trustsClientIp: config.identity.app !== undefined,
      createRequestId: createRequestIds(),
      onReplayFailed: metrics.replayFailed,
      onMoved: (key, machine) => this.sessions.onMoved(key, machine),
      onForwarded: (decision) => this.#onForwarded(decision),
      onRefused: () => upstreamHealth.noteRefused(),
      onFault: this.#engine.shared.onFault,
    };
  }

  /** Ignores forwards that are detours: they would renew themselves forever. */
  #onForwarded(decision: Decision): void {
    if (decision.kind === 'forward' && decision.why === 'owner-unreachable')
      this.#parts.liveness.onUnreachableFromEdge(decision.to);
  }

  #createPeerService(): PeerService {
    const { config, directory, liveness } = this.#parts;
    const { claimResolver, peers } = this.sessions;
    return createPeerService({
      ...{ self: config.identity.machine, claimResolver, directory },
      onRequestFrom: (machine) => liveness.onRequestFrom(machine),
      onStatus: (machine, status) => liveness.onStatus(machine, status),
      onAnnounced: (key, machine) => peers.onAnnounced(key, machine),
      status: () => this.status(),
      handlers: isSharedStore(config.store) ? {} : { [BINDINGS_PATH]: this.#joinService.respond },
    });
  }
}

function createCookie({ config, clock }: RequestPathParts): AffinityCookie | undefined {
  const { affinityCookie, identity, store, protocols } = config;
  const { ttlMs } = store;
  const parts = { self: identity.machine, ttlMs, clock };
  if (affinityCookie) return createAffinityCookie({ ...affinityCookie, ...parts });
  const beside = protocols.flatMap(({ recognizedCookies = [] }) => recognizedCookies);
  if (beside.length === 0) return undefined;
  return createAffinityCookie({ ...OWN_COOKIE, ...parts, beside });
}

/** Set beside recognized cookies of the app. */
const OWN_COOKIE = { name: 'fly-affinity', isCrossSite: false, isPartitioned: false } as const;

/** Ids for requests without one from the edge: a random prefix and a counter, as only the log uses them. */
function createRequestIds(): () => string {
  const prefix = randomUUID();
  let count = 0;
  return () => `${prefix}-${(count += 1)}`;
}
