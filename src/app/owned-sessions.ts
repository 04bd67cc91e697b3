/** The sessions of this Machine: binds, claims, announces and releases them. */
import type { Config } from '../config/config.ts';
import { createClaimResolver, type ClaimResolver } from '../fleet/claim-resolver.ts';
import type { Directory } from '../fleet/directory.ts';
import type { JoinOptions } from '../fleet/join/join.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { createPeers, type Peers } from '../fleet/peers.ts';
import type { StoreFailure } from '../proxy/background-writes.ts';
import { createBindings, type Bindings } from '../proxy/bindings.ts';
import { PausedSessions } from '../proxy/paused-sessions.ts';
import { createOpenStreams, createSessionRelease, type Release } from '../proxy/open-streams.ts';
import { createRateLimitedReport } from '../observability/log.ts';
import { SessionsOlderThanApp } from '../proxy/app-responses.ts';
import type { MachineId, SessionKey } from '../session.ts';
import type { SessionStore } from '../store/store.ts';
import type { AdapterParts } from './adapters.ts';
import { createUndiciLoader } from './fleet-adapters.ts';
import { MAX_KEYS, PROTOCOL_VERSION, type PeerStatus } from '../fleet/messages.ts';
import type { AffinityCookie } from '../protocols/affinity-cookie.ts';
import { createRequestIdReader } from '../protocols/request-ids.ts';
import type { UpstreamHealth } from '../proxy/upstream-health.ts';
import type { NotAccepting } from '../routing/decision.ts';
import { type Draining, createPlacement } from '../routing/placement.ts';
import { OwnerFinder } from '../routing/find-owner.ts';
import type { OwnerFinderParts } from '../routing/owner-lookup.ts';
import { Router } from '../routing/route.ts';

export interface OwnedSessionsParts extends AdapterParts {
  readonly config: Config;
  readonly store: SessionStore;
  readonly directory: Directory;
  readonly liveness: Liveness;
  /** In `run` mode: when the app's process was started, in ms since the epoch. */
  readonly appStartedAt?: number | undefined;
  /** Whether this Machine can report to its peers what it owns. */
  readonly isReadyForPeers: () => boolean;
}

/** A store that is down fails with every request: log one line at once, and then one per this time, in ms. */
const STORE_REPORT_MS = 10_000;

export class OwnedSessions {
  readonly olderSessions: SessionsOlderThanApp;
  readonly openStreams: ReturnType<typeof createOpenStreams>;
  readonly claimResolver: ClaimResolver;
  readonly peers: Peers;
  readonly paused: PausedSessions;
  readonly bindings: Bindings;
  readonly #parts: OwnedSessionsParts;
  readonly #self: MachineId;
  readonly #closeStreamsOf: ReturnType<typeof createSessionRelease>;

  constructor(parts: OwnedSessionsParts) {
    this.#parts = parts;
    this.#self = parts.config.identity.machine;
    this.olderSessions = this.#createOlderSessions();
    this.openStreams = createOpenStreams(parts);
    this.#closeStreamsOf = createSessionRelease({ ...parts, streams: this.openStreams });
    this.claimResolver = this.#createClaimResolver();
    this.peers = this.#createPeers();
    this.paused = this.#createPausedSessions();
    this.bindings = this.#createBindings();
  }

  #createPausedSessions(): PausedSessions {
    const { config, store, clock, liveness } = this.#parts;
    const { ttlMs, maxAgeMs } = config.store;
    const isRunning = (machine: MachineId): boolean => liveness.of(machine) === 'running';
    return new PausedSessions({ self: this.#self, store, clock, ttlMs, maxAgeMs, isRunning });
  }

  /** An operator has deleted a session, or moved it from one Machine to another. */
  onSessionChanged(key: SessionKey, from: MachineId | undefined, to: MachineId | undefined): void {
    const isOurs = from === undefined ? this.openStreams.count(key) > 0 : from === this.#self;
    const why = to === undefined ? 'deleted' : 'moved';
    if (isOurs && to !== this.#self) this.#release(key, { to, why });
  }

  /** A peer owns a session that is bound to this Machine too: the claim resolver or an announcement decides. */
  readonly onContested: JoinOptions['onConflict'] = (ours, { key, machine, ...theirs }) => {
    const { clock } = this.#parts;
    if (!this.olderSessions.isVoid(ours)) this.peers.announce(ours, ours.expiresAt - clock.now());
    else void this.claimResolver.onAnnouncement(key, machine, { ...theirs, origin: 'adopted' });
  };

  /** A peer has reported that it does not own a session that this Machine bound to it. */
  onMoved(key: SessionKey, machine: MachineId): void {
    this.bindings.dropCopy(key, machine);
    // So that the next request of the session finds its owner.
    void this.peers.ask(key);
  }

  #release(key: SessionKey, release: Release): void {
    this.peers.retract(key);
    this.#closeStreamsOf(key, release);
  }

  #createOlderSessions(): SessionsOlderThanApp {
    const { appStartedAt, logger } = this.#parts;
    const onFirstRejected = (): void =>
      logger.info(
        {},
        'the app rejects sessions older than its process: their clients get "session not found"',
      );
    return new SessionsOlderThanApp({ self: this.#self, appStartedAt, onFirstRejected });
  }

  /** Receives the claims of peers from their queries, announcements and responses. */
  #createClaimResolver(): ClaimResolver {
    const { store, clock, logger, metrics, isReadyForPeers: isReady } = this.#parts;
    return createClaimResolver({
      ...{ self: this.#self, store, clock, isReady },
      isVoid: (binding) => this.olderSessions.isVoid(binding),
      pendingClaimOf: (key) => this.bindings.pendingClaimOf(key),
      onConflict: () => metrics.claimConflict(),
      onContested: (binding, ttlMs) => this.peers.announce(binding, ttlMs),
      onReleased: (key, to) => this.#release(key, { to, why: 'outranked' }),
      onError: (error) => logger.warn({ err: error }, 'could not resolve the claim of a peer'),
    });
  }

  #createPeers(): Peers {
    const { directory, liveness, clock, random, logger, metrics } = this.#parts;
    const { claimResolver } = this;
    return createPeers({
      ...{ self: this.#self, directory, clock, random, liveness },
      onClaim: (key, claimant) =>
        void claimResolver.onAnnouncement(key, claimant.machine, claimant),
      onOutranked: (key, winner) => void claimResolver.onAnnouncement(key, winner.machine, winner),
      onQuery: metrics.peerQuery,
      onAnnouncementDropped: metrics.announcementDropped,
      loadUndici: createUndiciLoader(logger),
    });
  }

  #createBindings(): Bindings {
    const { store, clock, logger, metrics } = this.#parts;
    const { paused } = this;
    const onFailure = createRateLimitedReport<StoreFailure>(
      clock,
      STORE_REPORT_MS,
      ({ error, operation }, unreported) =>
        logger.warn({ err: error, operation, unreported }, 'store write failed'),
    );
    return createBindings({
      ...{ self: this.#self, store, clock, metrics, onFailure, peers: this.peers },
      get ttlMs() {
        return paused.ttlMs;
      },
      // A session whose streams are closing was released already.
      onLost: (key, release) => {
        if (this.openStreams.count(key) > 0) this.#release(key, release);
      },
      onConflict: (session, other) => {
        metrics.claimConflict();
        logger.warn({ session, other }, 'the app has minted an id that another Machine owned');
      },
    });
  }
}

export interface RoutingParts extends Pick<
  OwnedSessionsParts,
  'config' | 'store' | 'directory' | 'liveness' | 'clock'
> {
  readonly draining: Pick<Draining, 'state'>;
  /** Whether this Machine owns the maximum number of sessions. */
  readonly isFull: () => boolean;
  readonly upstreamHealth: Pick<UpstreamHealth, 'isUp' | 'noteRefused'>;
  /** Whether the public port is open. */
  readonly isServing: () => boolean;
  /** Whether this Machine sleeps, or is about to. */
  readonly isAsleep: () => boolean;
}

export function createRouter(
  parts: RoutingParts,
  sessions: OwnedSessions,
  cookie: AffinityCookie | undefined,
): Router {
  const { config, directory, liveness } = parts;
  const { ownerGone, unknownSession, replayMaxBodyBytes, placement: scope } = config;
  const { machine: self, region } = config.identity;
  const takesSessions = (): boolean => statusOf(parts).takesSessions;
  return new Router({
    ...{ self, liveness, directory, replayMaxBodyBytes },
    readIds: createRequestIdReader(config.protocols, { hints: config.hints }),
    owners: new OwnerFinder(ownerFinderParts(parts, sessions)),
    namedByCookie: cookie?.read,
    place: createPlacement({ self, region, scope, liveness, takesSessions }),
    notAccepting: () => whyNotAccepting(parts),
    policy: { ownerGone, unknownSession, replays: replaysOf(parts) },
  });
}

function ownerFinderParts(
  parts: RoutingParts,
  { peers, bindings }: OwnedSessions,
): OwnerFinderParts {
  const { config, store, directory, liveness, clock } = parts;
  // Machines may share a database without being a fleet.
  const isAlone = config.fleet.kind === 'off' && !store.isShared;
  return {
    ...{ store, directory, liveness, peers, clock },
    self: config.identity.machine,
    hints: config.hints,
    replays: replaysOf(parts),
    isInFlight: (key) => bindings.isInFlight(key),
    onDisowned: (key, machine) => bindings.dropCopy(key, machine),
    onOwnPast: isAlone ? (binding) => bindings.restore(binding) : undefined,
  };
}

function replaysOf({ config }: RoutingParts): 'resilient' | 'cacheable' {
  return config.replayCacheable ? 'cacheable' : 'resilient';
}

/** The status that peers receive from this Machine. */
export function statusOf(parts: RoutingParts): PeerStatus {
  const isAsleep = parts.isAsleep();
  const takesSessions = parts.isServing() && !isAsleep && whyNotAccepting(parts) === undefined;
  return {
    version: PROTOCOL_VERSION,
    takesSessions,
    region: parts.config.identity.region,
    ...(isAsleep && { isAsleep }),
    sleepers: parts.liveness.sleepers().slice(0, MAX_KEYS),
  };
}

/** An operator's drain takes precedence over capacity and health. */
export function whyNotAccepting(parts: RoutingParts): NotAccepting | undefined {
  const { draining, isFull, upstreamHealth } = parts;
  if (draining.state() !== 'taking') return 'draining';
  if (isFull()) return 'full';
  return upstreamHealth.isUp() ? undefined : 'upstream-down';
}
