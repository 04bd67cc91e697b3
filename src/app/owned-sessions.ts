/** The sessions of this Machine: binds, claims, announces and releases them. */
import type { Config } from '../config/config.ts';
import { createClaimResolver, type ClaimResolver } from '../fleet/claim-resolver.ts';
import type { Directory } from '../fleet/directory.ts';
import type { JoinOptions } from '../fleet/join/join.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { createPeers, type Peers } from '../fleet/peers.ts';
import { type StoreFailure, createBindings, type Bindings } from '../proxy/bindings.ts';
import { createOpenStreams, createSessionRelease, type Release } from '../proxy/open-streams.ts';
import { createRateLimitedReport } from '../proxy/rate-limited-report.ts';
import { SessionsOlderThanApp } from '../proxy/sessions-older-than-app.ts';
import type { MachineId, SessionKey } from '../session.ts';
import type { SessionStore } from '../store/store.ts';
import type { AdapterParts } from './adapters.ts';
import { createUndiciLoader } from './fleet-adapters.ts';

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
    this.bindings = this.#createBindings();
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
      onAnnouncementsLost: metrics.announcementDropped,
      loadUndici: createUndiciLoader(logger),
    });
  }

  #createBindings(): Bindings {
    const { store, clock, logger, metrics, config } = this.#parts;
    const onFailure = createRateLimitedReport<StoreFailure>(
      clock,
      STORE_REPORT_MS,
      ({ error, operation }, untold) =>
        logger.warn({ err: error, operation, untold }, 'store write failed'),
    );
    return createBindings({
      ...{ self: this.#self, store, clock, onFailure, peers: this.peers },
      ttlMs: config.store.ttlMs,
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
