/** The composition root: puts the parts of a sidecar together, starts them in order, stops them in reverse. */
import {
  countSessions,
  openStore,
  openTracing,
  watchUpstream,
  type AdapterParts,
  type OpenedStore,
} from './adapters.ts';
import {
  createDirectory,
  createLiveness,
  joinFleet,
  startDirectory,
  startFleetWarnings,
} from './fleet-adapters.ts';
import { awaitDrained, createOwnSessionCount } from './drain.ts';
import { startAdmin } from '../admin/admin.ts';
import type { Readiness } from '../admin/health.ts';
import type { Config } from '../config/config.ts';
import { createDraining } from '../routing/placement.ts';
import type { Heartbeats } from '../fleet/heartbeats.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Liveness } from '../fleet/liveness.ts';
import type { UpstreamHealth } from '../proxy/upstream-health.ts';
import type { Sidecar } from './lifecycle.ts';
import { listen, type HttpListener } from '../http/listener.ts';
import type { ReservedPort } from '../http/reserved-port.ts';
import { RequestPath } from './request-path.ts';
import { StatusReporter } from './status.ts';
import { openWithApp, type StartWaitParts } from './start-wait.ts';
import type { Logger } from '../observability/log.ts';
import type { Tracing } from '../observability/tracing.ts';
import { RecentEvents } from '../observability/recent-events.ts';
import { createSleeper, suspendTargetOf } from './sleep.ts';
import type { Sleeper } from './sleeper.ts';
import { startCleanup } from '../store/cleanup.ts';
import type { SessionStore } from '../store/store.ts';

export interface SidecarParts extends AdapterParts, StartWaitParts {
  /** The public port, if it is bound already. */
  readonly reservedPort?: ReservedPort | undefined;
  /** When that app's process was started, in ms since the epoch. */
  readonly appStartedAt?: number | undefined;
}

type Phase = 'starting' | 'started';

/**
 * Starts in this order: store, fleet, peer listener, admin listener, public listener, (the app). A
 * failure on the way stops what was started and rejects with a sentence for the operator.
 */
export async function startSidecar(config: Config, parts: SidecarParts): Promise<Sidecar> {
  const sidecar = new RunningSidecar(config, parts);
  try {
    await sidecar.start();
    return sidecar;
  } catch (error) {
    await sidecar.stop();
    throw error;
  }
}

class RunningSidecar implements Sidecar {
  readonly #config: Config;
  readonly #parts: SidecarParts;
  readonly #requestLogger: Logger;
  readonly #events: RecentEvents;
  readonly #liveness: Liveness;
  readonly #directory: Directory;
  readonly #draining = createDraining();
  readonly #upstreamHealth: UpstreamHealth;
  #phase: Phase = 'starting';
  #opened: OpenedStore | undefined;
  #isFull = (): boolean => false;
  #path: RequestPath | undefined;
  #sleeper: Sleeper | undefined;
  #ports = { public: 0, peer: 0, admin: 0 };
  /** In the order of starting; stopped from the end. */
  readonly #stops: (() => Promise<void> | void)[] = [];
  #ending: Promise<void> | undefined;
  /** Aborted to stop waiting for the drain. */
  readonly #drained = new AbortController();
  #stopping: Promise<void> | undefined;

  constructor(config: Config, given: SidecarParts) {
    this.#config = config;
    this.#events = new RecentEvents(given.clock);
    this.#requestLogger = given.logger;
    const parts = { ...given, logger: this.#events.watch(given.logger) };
    this.#parts = parts;
    this.#liveness = createLiveness(config, parts);
    this.#directory = createDirectory(config, parts, this.#liveness);
    this.#upstreamHealth = watchUpstream(config, parts);
  }

  get ports(): Sidecar['ports'] {
    return this.#ports;
  }

  async start(): Promise<void> {
    const opened = await this.#openStore();
    const path = this.#assemble(opened, await this.#openTracing());
    const { listeners, heartbeats } = path;
    await this.#startFleet(heartbeats);
    this.#joinFleet(opened.store, path);
    const { host, port, peerPort } = this.#config;
    const peer = await this.#listen(listeners.peer, peerPort);
    const admin = await this.#startAdmin(host, opened.store, path);
    const publicPort = await this.#listen(listeners.edge, port, this.#parts.reservedPort);
    this.#ports = { public: publicPort, peer, admin };
    await this.#awaitApp(path);
    this.#upstreamHealth.start();
    this.#phase = 'started';
    await heartbeats.sendNow();
    this.#startSleeper(opened, path);
  }

  #startSleeper(opened: OpenedStore, path: RequestPath): void {
    const target = suspendTargetOf(this.#config);
    if (!target) return;
    this.#sleeper = createSleeper(this.#config, target, {
      ...{ parts: this.#parts, opened, path, ports: this.#ports },
      ...{ draining: this.#draining, directory: this.#directory, liveness: this.#liveness },
      status: () => path.status(),
    });
    this.#sleeper.start();
    this.#stops.push(() => this.#sleeper?.stop());
  }

  readiness(): Readiness {
    const { kind } = this.#directory.status();
    const silent = this.#liveness.missingHeartbeats().length;
    const asleep = this.#liveness.sleepers().length;
    const fleet = { kind, others: this.#directory.others().length, silent, asleep };
    const opened = this.#opened;
    const storeKind = this.#config.store.isEnabled ? opened?.store.kind : undefined;
    const store = { kind: storeKind ?? 'none', ...opened?.health() };
    const reason = this.#whyNotReady();
    const upstream = this.#upstreamHealth.status();
    const sleep = this.#sleeper?.status();
    return { ready: reason === undefined, reason, store, fleet, upstream, sleep };
  }

  #whyNotReady(): string | undefined {
    const state = this.#draining.state();
    if (state === 'ending') return 'draining';
    if (this.#phase === 'starting') return 'starting';
    return state === 'drained' ? 'drained' : undefined;
  }

  drain(): Promise<void> {
    return (this.#ending ??= this.#untilDrained());
  }

  stop(): Promise<void> {
    return (this.#stopping ??= this.#stopAll());
  }

  async #openStore(): Promise<OpenedStore> {
    const { clock, logger, metrics } = this.#parts;
    const uncounted = await openStore(this.#config, this.#parts);
    const counted = countSessions(this.#config, this.#parts, uncounted);
    const opened = { ...uncounted, store: counted.store };
    this.#opened = opened;
    this.#isFull = counted.isFull;
    metrics.watchStore({
      getMetrics: () => opened.store.getMetrics(),
      health: opened.health,
    });
    const cleanups = startCleanup(opened.store, {
      clock,
      intervalMs: this.#config.store.cleanupIntervalMs,
      onError: (error) => logger.warn({ err: error }, 'session store clean-up failed'),
    });
    this.#stops.push(
      () => Promise.all([cleanups.ended(), counted.ended()]).then(() => undefined),
      () => opened.store.close(),
      () => cleanups.cancel(),
      () => counted.cancel(),
    );
    return opened;
  }

  async #startFleet(heartbeats: Heartbeats): Promise<void> {
    this.#stops.push(() => this.#directory.stop());
    this.#stops.push(startFleetWarnings(this.#config, this.#parts, this.#directory));
    await startDirectory(this.#directory, this.#parts.clock);
    if (this.#config.fleet.kind !== 'off') await heartbeats.start();
  }

  #joinFleet(store: SessionStore, { sessions }: RequestPath): void {
    const joining = joinFleet(this.#config, this.#parts, {
      ...{ store, directory: this.#directory, liveness: this.#liveness },
      onContested: sessions.onContested,
    });
    this.#stops.push(() => joining.stop());
  }

  async #startAdmin(host: string, store: SessionStore, path: RequestPath): Promise<number> {
    const { adminPort, adminToken, identity } = this.#config;
    const reporter = this.#createReporter(store, path);
    this.#stops.push(() => reporter.stop());
    const admin = await startAdmin({
      ...this.#parts,
      ...{ host, port: adminPort, token: adminToken, store, explain: path.explain },
      draining: this.#draining,
      readiness: () => this.readiness(),
      status: (isDetailed) => reporter.status(isDetailed),
      onSessionChanged: (...change) => path.sessions.onSessionChanged(...change),
      countOpenRequests: () => path.busyCount(),
      countOwnSessions: createOwnSessionCount(store, identity.machine),
    });
    this.#stops.push(() => admin.stop());
    return admin.port;
  }

  #createReporter(store: SessionStore, path: RequestPath): StatusReporter {
    return new StatusReporter({
      ...{ config: this.#config, store, draining: this.#draining, events: this.#events },
      ...{ clock: this.#parts.clock, metrics: this.#parts.metrics },
      ...{ directory: this.#directory, liveness: this.#liveness },
      readiness: () => this.readiness(),
      notAccepting: () => path.notAccepting(),
      countOpenRequests: () => path.busyCount(),
      protocolCounts: () => path.seenProtocols.counts(),
      missingPresets: () => path.seenProtocols.missingPresets(),
    });
  }

  async #listen(listener: HttpListener, port: number, bound?: ReservedPort): Promise<number> {
    const listening = bound
      ? bound.handOver(listener.server).then(() => bound.port)
      : listen(listener.server, { host: this.#config.host, port });
    const opened = await listening;
    this.#stops.push(() => listener.close(STOP_GRACE_MS));
    return opened;
  }

  async #awaitApp({ startGate }: RequestPath): Promise<void> {
    this.#stops.push(() => startGate.refuse());
    await openWithApp(startGate, this.#config, this.#parts);
  }

  /** Stops after the requests, whose spans it sends. */
  async #openTracing(): Promise<Tracing | undefined> {
    const tracing = await openTracing(this.#config, this.#parts);
    if (tracing) this.#stops.push(() => tracing.stop());
    return tracing;
  }

  #assemble({ store }: OpenedStore, tracing: Tracing | undefined): RequestPath {
    // Stops after the requests, whose failures it receives.
    this.#stops.push(() => this.#upstreamHealth.stop());
    const path = new RequestPath({
      ...{ ...this.#parts, requestLogger: this.#requestLogger, config: this.#config },
      ...{ store, tracing, directory: this.#directory, liveness: this.#liveness },
      ...{ draining: this.#draining, upstreamHealth: this.#upstreamHealth },
      isFull: this.#isFull,
      // While the store fails, peers get the response "unknown".
      isReadyForPeers: () => this.#phase !== 'starting',
      isServing: () => this.#phase !== 'starting',
      isAsleep: () => this.#sleeper?.isAsleep === true,
    });
    this.#path = path;
    if (this.#parts.untilAppListens) path.startGate.close();
    this.#stops.push(() => path.stop());
    return path;
  }

  /**
   * Does not wait for idle sessions: their memory ends with the app in any case, and every Machine of a
   * rolling deploy would wait for them.
   */
  #untilDrained(): Promise<void> {
    this.#draining.end();
    return awaitDrained({
      clock: this.#parts.clock,
      timeoutMs: this.#config.drainTimeoutMs,
      signal: this.#drained.signal,
      msUntilQuiet: () => this.#path?.msUntilQuiet() ?? 0,
    });
  }

  async #stopAll(): Promise<void> {
    this.#draining.end();
    this.#drained.abort();
    for (const stop of this.#stops.reverse()) {
      try {
        await stop();
      } catch (error) {
        this.#parts.logger.error({ err: error }, 'a part did not stop cleanly');
      }
    }
    await this.#ending;
  }
}

/** How long requests in progress may continue after a drain, in ms. */
const STOP_GRACE_MS = 500;
