/** Puts the status of this sidecar together, when somebody asks for it: nothing runs for it before. */
import { withoutReasons, type Readiness } from '../admin/health.ts';
import type { RequestStatus, SessionStatus, Status } from '../admin/status.ts';
import type { Clock } from '../clock.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { reportMachines } from '../fleet/machine-reports.ts';
import { kindOfProtocol, sumOf, type Metrics } from '../observability/metrics.ts';
import type { RecentEvent, RecentEvents } from '../observability/recent-events.ts';
import { readVersion } from '../package.ts';
import type { NotAccepting } from '../routing/decision.ts';
import type { Draining } from '../routing/placement.ts';
import type { SessionStore } from '../store/store.ts';
import { CachedReading } from './cached-reading.ts';

interface StatusReporterParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'counts'>;
  readonly events: RecentEvents;
  readonly directory: Pick<Directory, 'status'>;
  readonly liveness: Liveness;
  readonly draining: Pick<Draining, 'state'>;
  readonly store: Pick<SessionStore, 'entries' | 'getMetrics'>;
  readonly readiness: () => Readiness;
  readonly notAccepting: () => NotAccepting | undefined;
  readonly countOpenRequests: () => number;
  readonly protocolCounts: () => Readonly<Record<string, number>>;
  readonly missingPresets: () => readonly string[];
}

/** In ms. Several pages that are open share the readings. */
const STORE_INTERVAL_MS = 1_500;
const SESSIONS_INTERVAL_MS = 5_000;

export class StatusReporter {
  readonly #parts: StatusReporterParts;
  readonly #version = readVersion();
  readonly #startedAt: number;
  readonly #rate: RecentRate;
  readonly #storeMetrics: CachedReading<Awaited<ReturnType<SessionStore['getMetrics']>>>;
  readonly #sessions: CachedReading<Readonly<Record<string, number>>>;

  constructor(parts: StatusReporterParts) {
    const { clock, store } = parts;
    this.#parts = parts;
    this.#startedAt = clock.now();
    this.#rate = new RecentRate(clock);
    this.#storeMetrics = new CachedReading({
      ...{ clock, intervalMs: STORE_INTERVAL_MS },
      read: () => store.getMetrics(),
    });
    this.#sessions = new CachedReading({
      ...{ clock, intervalMs: SESSIONS_INTERVAL_MS },
      read: (signal) => countByMachine(store, signal),
    });
  }

  /** Never rejects. `isDetailed`: with what names hosts and paths. */
  async status(isDetailed: boolean): Promise<Status> {
    const [storeMetrics, byMachine] = await Promise.all([
      this.#storeMetrics.latest(),
      this.#sessions.latest(),
    ]);
    const whole = this.#whole(storeMetrics, byMachine);
    return isDetailed ? whole : withoutDetail(whole);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#storeMetrics.stop(), this.#sessions.stop()]);
  }

  #whole(
    storeMetrics: Status['storeMetrics'],
    byMachine: SessionStatus['byMachine'],
  ): Status & Required<Pick<Status, 'detail'>> {
    const { config, clock, events, draining, liveness } = this.#parts;
    const { machine, app, region, processGroup } = config.identity;
    const { fleet, ...readiness } = this.#parts.readiness();
    const directory = this.#parts.directory.status();
    const reason = directory.kind === 'failing' ? directory.reason : undefined;
    return {
      ...{ machine, app, region, processGroup, ...readiness },
      ...{ version: this.#version, startedAt: this.#startedAt, now: clock.now() },
      ...{ drain: draining.state(), notAccepting: this.#parts.notAccepting() },
      fleet: { ...fleet, ...(reason !== undefined && { reason }) },
      requests: this.#requests(),
      sessions: this.#sessionStatus(byMachine),
      machines: reportMachines(liveness, machine),
      protocols: this.#parts.protocolCounts(),
      missingPresets: this.#parts.missingPresets(),
      storeMetrics,
      events: { ofSessions: events.ofSessions(), others: events.others() },
      detail: { upstream: config.upstreamUrl.origin, store: placeOf(config.store) },
    };
  }

  #requests(): RequestStatus {
    const { metrics, countOpenRequests } = this.#parts;
    const decisions = metrics.counts('requestDecided');
    return {
      open: countOpenRequests(),
      openStreams: metrics.counts('openStreams'),
      perSecond: this.#rate.next(sumOf(decisions)),
      decisions,
      ofClients: metrics.counts('clientRequest'),
      replaysFailed: metrics.counts('replayFailed'),
      lost: metrics.counts('sessionLost'),
      unavailable: metrics.counts('sessionUnavailable'),
    };
  }

  #sessionStatus(byMachine: SessionStatus['byMachine']): SessionStatus {
    const { metrics, config } = this.#parts;
    return {
      byMachine,
      limit: config.maxSessionsPerMachine,
      conflicts: sumOf(metrics.counts('claimConflict')),
      released: metrics.counts('sessionReleased'),
    };
  }
}

/** For everybody on the private network. */
function withoutDetail(status: Status): Status {
  const protocols: Record<string, number> = {};
  for (const [name, count] of Object.entries(status.protocols))
    protocols[kindOfProtocol(name)] = (protocols[kindOfProtocol(name)] ?? 0) + count;
  const { ofSessions, others } = status.events;
  return {
    ...withoutReasons(status),
    fleet: { ...status.fleet, reason: undefined },
    protocols,
    detail: undefined,
    machines: status.machines.map((machine) => ({ ...machine, address: undefined })),
    events: { ofSessions: ofSessions.map(open), others: others.map(open) },
  };
}

function open(event: RecentEvent): RecentEvent {
  return { ...event, detail: '' };
}

/** Without the password of a database. */
function placeOf({ isEnabled, url, path }: StoreConfig): string {
  if (!isEnabled) return 'memory';
  if (url === undefined) return path;
  if (url.kind === 'memory' || !URL.canParse(url.href)) return url.kind;
  const { protocol, host, pathname } = new URL(url.href);
  return `${protocol}//${host}${pathname}`;
}

/** Rejects if the store can't be read, or the signal aborts. */
async function countByMachine(
  store: Pick<SessionStore, 'entries'>,
  signal: AbortSignal,
): Promise<Readonly<Record<string, number>>> {
  const counts = new Map<string, number>();
  for await (const { machine } of store.entries()) {
    signal.throwIfAborted();
    counts.set(machine, (counts.get(machine) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

/** Counts older than this say nothing about now, in ms. */
const RATE_WINDOW_MS = 12_000;
/** Several readings within this time, in ms, are one. */
const RATE_STEP_MS = 1_000;

/** How fast a count grows, from the readings of it in the last seconds. */
class RecentRate {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #readings: { readonly atMs: number; readonly count: number }[] = [];

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** Per second; undefined if there is no earlier reading. */
  next(count: number): number | undefined {
    const atMs = this.#clock.monotonicMs();
    this.#readings = this.#readings.filter((reading) => atMs - reading.atMs <= RATE_WINDOW_MS);
    const [first] = this.#readings;
    const last = this.#readings.at(-1);
    if (!last || atMs - last.atMs >= RATE_STEP_MS) this.#readings.push({ atMs, count });
    if (!first || atMs - first.atMs < RATE_STEP_MS) return undefined;
    return ((count - first.count) * 1_000) / (atMs - first.atMs);
  }
}
