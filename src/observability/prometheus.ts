/** The measurements as Prometheus reads them. */
import { Counter, Gauge, Registry } from 'prom-client';
import { DECISION_KINDS, WHYS } from '../routing/decision.ts';
import type { Clock } from '../clock.ts';
import { REPLAY_FAILURE_REASONS } from '../fly.ts';
import {
  PEER_OUTCOMES,
  RELEASE_REASONS,
  STREAM_KINDS,
  type FleetCount,
  type Metrics,
  type WatchedStore,
} from './metrics.ts';
import { WRITE_BACK_RESULTS, type StoreHealth } from '../store/health.ts';
import { STORE_OPERATIONS, type StoreMetrics } from '../store/store.ts';
import { registerCountPairs, registerCounts, registerDurations } from './counters.ts';
import { registerProcessMetrics } from './process-metrics.ts';

export interface MetricsOptions {
  readonly clock: Clock;
  readonly version: string;
}

/** Each call has a registry of its own, so that two sidecars can run in one process. */
export function createMetrics({ clock, version }: MetricsOptions): Metrics {
  const registry = new Registry();
  const stopProcessMetrics = registerProcessMetrics(registry);
  registerBuildInfo(registry, version);
  const store = registerStoreGauges(registry, clock);
  return {
    ...registerRequests(registry),
    ...registerStreams(registry),
    ...registerConnections(registry),
    ...registerPeers(registry),
    ...registerStoreOperations(registry),
    ...registerUpstream(registry),
    ...registerFleet(registry),
    watchOwnSessions: (count) => showOwnSessions(registry, count),
    watchStore: (watched) => store.watch(watched),
    render: async () => {
      await store.refresh();
      return registry.metrics();
    },
    contentType: registry.contentType,
    close: stopProcessMetrics,
  };
}

const SIDECAR_BUCKETS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 300, 1000];
const UPSTREAM_BUCKETS_MS = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 60_000, 300_000];
const STORE_BUCKETS_MS = [0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 50, 100, 500, 2000];
const STORE_READ_TIMEOUT_MS = 2000;

function registerRequests(
  registry: Registry,
): Pick<Metrics, 'requestDecided' | 'requestAnswered' | 'replayFailed'> {
  const decided = registerCountPairs(
    registry,
    { name: 'fly_affinity_requests_total', help: 'Requests by what was done with them, and why.' },
    { name: 'decision', values: DECISION_KINDS },
    { name: 'why', values: WHYS },
  );
  const failed = registerCounts(
    registry,
    {
      name: 'fly_affinity_replays_failed_total',
      help: 'Requests that came back undelivered, by the reason that the edge gives.',
    },
    { name: 'reason', values: REPLAY_FAILURE_REASONS },
  );
  const answered = registerCounts(
    registry,
    {
      name: 'fly_affinity_responses_total',
      help: 'Answers by class of status; 499: the client left.',
    },
    { name: 'status', values: ['1xx', '2xx', '3xx', '4xx', '5xx', '499'] },
  );
  const sidecar = registerDurations(
    registry,
    {
      name: 'fly_affinity_sidecar_seconds',
      help: "Time added to a request until its answer's head.",
    },
    SIDECAR_BUCKETS_MS,
  );
  const upstream = registerDurations(
    registry,
    {
      name: 'fly_affinity_upstream_seconds',
      help: "Time until the head of the app's or peer's answer.",
    },
    UPSTREAM_BUCKETS_MS,
  );
  return {
    requestDecided: decided,
    replayFailed: (reason) => failed(reason),
    requestAnswered: ({ sidecarMs, upstreamMs, statusCode }) => {
      answered(statusClass(statusCode));
      sidecar(sidecarMs);
      if (upstreamMs !== undefined) upstream(upstreamMs);
    },
  };
}

const STATUS_CLASSES = ['other', '1xx', '2xx', '3xx', '4xx', '5xx'];

function statusClass(statusCode: number): string {
  if (statusCode === 499) return '499';
  return STATUS_CLASSES[Math.floor(statusCode / 100)] ?? 'other';
}

function registerStreams(registry: Registry): Pick<Metrics, 'streamOpened' | 'streamClosed'> {
  const open = { http: 0, websocket: 0 };
  new Gauge({
    name: 'fly_affinity_open_streams',
    help: 'Answers and sockets open now.',
    labelNames: ['kind'],
    registers: [registry],
    collect() {
      for (const kind of STREAM_KINDS) this.set({ kind }, open[kind]);
    },
  });
  return {
    streamOpened: (kind) => (open[kind] += 1),
    streamClosed: (kind) => (open[kind] -= 1),
  };
}

function registerConnections(
  registry: Registry,
): Pick<Metrics, 'connectionFault' | 'connectionRefused'> {
  const faults = new Counter({
    name: 'fly_affinity_connection_faults_total',
    help: 'Connections that an unexpected error in the sidecar has ended: a defect, see the log.',
    registers: [registry],
  });
  const refused = new Counter({
    name: 'fly_affinity_connections_refused_total',
    help: 'Connections refused because MAX_CONNECTIONS were open.',
    registers: [registry],
  });
  return { connectionFault: () => faults.inc(), connectionRefused: () => refused.inc() };
}

function registerPeers(
  registry: Registry,
): Pick<
  Metrics,
  'peerQuestion' | 'announcementsDropped' | 'bindingsRead' | 'claimConflict' | 'sessionReleased'
> {
  const asked = registerCounts(
    registry,
    { name: 'fly_affinity_peer_questions_total', help: 'Questions to the peers by their outcome.' },
    { name: 'outcome', values: PEER_OUTCOMES },
  );
  const dropped = new Counter({
    name: 'fly_affinity_announcements_dropped_total',
    help: 'Announcements to peers that found no room.',
    registers: [registry],
  });
  const read = new Counter({
    name: 'fly_affinity_bindings_read_total',
    help: 'Bindings read from peers at the start, which were not known here.',
    registers: [registry],
  });
  const conflicts = new Counter({
    name: 'fly_affinity_claim_conflicts_total',
    help: 'Sessions that two Machines had adopted, and one gave up.',
    registers: [registry],
  });
  const released = registerCounts(
    registry,
    {
      name: 'fly_affinity_sessions_released_total',
      help: 'Sessions of this Machine that are not its own any more.',
    },
    { name: 'why', values: RELEASE_REASONS },
  );
  return {
    peerQuestion: (outcome) => asked(outcome),
    announcementsDropped: (count) => dropped.inc(count),
    bindingsRead: (count) => read.inc(count),
    claimConflict: () => conflicts.inc(),
    sessionReleased: (why) => released(why),
  };
}

function registerStoreOperations(
  registry: Registry,
): Pick<Metrics, 'storeOperation' | 'storeWrittenBack'> {
  const operations = { name: 'operation', values: STORE_OPERATIONS };
  const count = registerCountPairs(
    registry,
    { name: 'fly_affinity_store_operations_total', help: 'Operations of the session store.' },
    operations,
    { name: 'outcome', values: ['ok', 'error'] },
  );
  const durations = registerDurations(
    registry,
    {
      name: 'fly_affinity_store_operation_seconds',
      help: 'Time an operation took, waiting included.',
    },
    STORE_BUCKETS_MS,
    operations,
  );
  const writtenBack = registerCounts(
    registry,
    {
      name: 'fly_affinity_store_write_back_total',
      help: 'Bindings accepted while the store failed, by what became of them.',
    },
    { name: 'result', values: WRITE_BACK_RESULTS },
  );
  return {
    storeOperation: (operation, outcome, durationMs) => {
      count(operation, outcome);
      durations(durationMs, operation);
    },
    storeWrittenBack: (result) => writtenBack(result),
  };
}

function registerUpstream(registry: Registry): Pick<Metrics, 'watchUpstream'> {
  let isUp = (): boolean => true;
  new Gauge({
    name: 'fly_affinity_upstream_up',
    help: '1 while the app takes requests, 0 while new sessions go elsewhere as it does not.',
    registers: [registry],
    collect() {
      this.set(isUp() ? 1 : 0);
    },
  });
  return { watchUpstream: (watched) => void (isUp = watched) };
}

function registerFleet(registry: Registry): Pick<Metrics, 'watchFleet'> {
  let count = (): FleetCount => ({ answering: 0, silent: 0 });
  new Gauge({
    name: 'fly_affinity_peers',
    help: 'Other Machines of the fleet that run: those that answer this one, and those that are silent.',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const { answering, silent } = count();
      this.set({ state: 'answering' }, answering);
      this.set({ state: 'silent' }, silent);
    },
  });
  return { watchFleet: (watched) => void (count = watched) };
}

function showOwnSessions(registry: Registry, count: () => number): void {
  new Gauge({
    name: 'fly_affinity_own_sessions',
    help: 'Sessions that live on this Machine; counted up to twice MAX_SESSIONS_PER_MACHINE.',
    registers: [registry],
    collect() {
      this.set(count());
    },
  });
}

function registerBuildInfo(registry: Registry, version: string): void {
  const labels = { version, node: process.version };
  new Gauge({
    name: 'fly_affinity_build_info',
    help: 'Always 1; the labels say what is running.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set(labels, 1);
}

interface StoreGauges {
  watch(store: WatchedStore): void;
  /** Resolves when the store has answered, or after {@link STORE_READ_TIMEOUT_MS}; never rejects. */
  refresh(): Promise<void>;
}

function registerStoreGauges(registry: Registry, clock: Clock): StoreGauges {
  let watched: WatchedStore | undefined;
  let last: StoreMetrics | undefined;
  let reading: Promise<void> | undefined;
  showStore(registry, () => last);
  showHealth(registry, () => watched?.health());

  const readOnce = async (store: WatchedStore): Promise<void> => {
    try {
      last = await store.getMetrics();
    } catch {
      // What it last said stays; that it fails is counted among its operations.
    } finally {
      reading = undefined;
    }
  };
  return {
    watch: (store) => (watched = store),
    refresh: async () => {
      if (!watched) return;
      reading ??= readOnce(watched);
      const deadline = new AbortController();
      await Promise.race([reading, clock.sleep(STORE_READ_TIMEOUT_MS, deadline.signal)]);
      deadline.abort();
    },
  };
}

/** The store counts by itself; what it says is shown as it is, and 0 before it has said anything. */
function showStore(registry: Registry, last: () => StoreMetrics | undefined): void {
  const show = (
    type: typeof Gauge | typeof Counter,
    name: string,
    help: string,
    value: (metrics: StoreMetrics) => number | undefined,
  ): void => {
    new type({
      name: `fly_affinity_${name}`,
      help,
      registers: [registry],
      collect() {
        const metrics = last();
        this.reset();
        if (metrics) this.inc(value(metrics) ?? 0);
      },
    });
  };
  show(
    Gauge,
    'sessions',
    'Sessions bound here, expired ones not counted.',
    (m) => m.total - m.expired,
  );
  show(Gauge, 'sessions_expired', 'Expired sessions not cleaned up yet.', (m) => m.expired);
  show(Gauge, 'store_size_bytes', 'Database and write-ahead log on disk.', (m) => m.sizeBytes);
  show(
    Gauge,
    'store_last_cleanup_timestamp_seconds',
    'When it was last cleaned up; 0: not yet.',
    (m) => (m.lastCleanupAt === undefined ? 0 : m.lastCleanupAt / 1000),
  );
  show(Counter, 'store_lookups_total', 'Sessions looked up.', (m) => m.lookups);
  show(Counter, 'store_upserts_total', 'Sessions written.', (m) => m.upserts);
  show(Counter, 'store_deletes_total', 'Sessions removed.', (m) => m.deletes);
  show(Counter, 'store_errors_total', 'Operations that failed.', (m) => m.errors);
}

/** Read at the scrape, whether or not the store answers. */
function showHealth(registry: Registry, health: () => StoreHealth | undefined): void {
  const show = (name: string, help: string, value: (health: StoreHealth) => number): void => {
    new Gauge({
      name: `fly_affinity_store_${name}`,
      help,
      registers: [registry],
      collect() {
        const now = health();
        this.set(now ? value(now) : 0);
      },
    });
  };
  show('degraded', '1 while reads or writes of the store fail and memory stands in.', (now) =>
    now.failing === 'none' ? 0 : 1,
  );
  show(
    'write_back_depth',
    'Bindings accepted while the store failed and not written yet.',
    (now) => now.writeBack.depth,
  );
  show(
    'write_back_age_seconds',
    'How long the oldest of these has waited.',
    (now) => now.writeBack.ageMs / 1000,
  );
}
