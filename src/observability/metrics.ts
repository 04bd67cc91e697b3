/**
 * Every metric, and how the program records it: a new one is a line in a table of this file. The name
 * of a row is the name of its recording function. `prometheus.ts` is behind it, {@link nullMetrics}
 * in tests.
 */
import { REPLAY_FAILURE_REASONS } from '../fly.ts';
import { DECISION_KINDS, WHYS } from '../routing/decision.ts';
import {
  WRITE_BACK_RESULTS,
  type StoreHealth,
  STORE_OPERATIONS,
  type StoreMetrics,
} from '../store/store.ts';

const STREAM_KINDS = ['http', 'websocket'] as const;
const QUERY_OUTCOMES = ['owner', 'none', 'inconclusive', 'shed'] as const;
export const STATUS_CLASSES = ['1xx', '2xx', '3xx', '4xx', '5xx', '499'] as const;
const UPSTREAMS = ['app', 'peer'] as const;
/** `app-restarted`: the app rejects a session that is older than its process. */
const LOST_WHYS = ['unknown-session', 'owner-gone', 'app-restarted'] as const;
export type LostWhy = (typeof LOST_WHYS)[number] | 'other';
const END_REASONS = ['closed', 'stream-closed', 'app-restarted'] as const;
export type EndReason = (typeof END_REASONS)[number];
const SUSPEND_OUTCOMES = ['suspended', 'aborted', 'failed'] as const;
/** The protocol of a request without a session id. */
export const NO_PROTOCOL = 'none';

/** Why a session no longer belongs to this Machine. */
const RELEASE_REASONS = ['outranked', 'moved', 'deleted'] as const;
export type ReleaseReason = (typeof RELEASE_REASONS)[number];

/** Presets, and the kinds of what a setting spells itself; a test compares them with the presets. */
export const PROTOCOL_NAMES = [
  ...['mcp', 'mcp-tasks', 'mcp-sse', 'rpc', 'socket.io', 'sockjs', 'signalr', 'jupyter'],
  ...['webdriver', 'cdp', 'tus', 'whip', 'colyseus', 'yjs', 'hocuspocus', 'gradio'],
  ...['gradio-call', 'responses', 'kv-cache', 'express', 'java', 'php', 'aspnet'],
  ...['cookie', 'header', 'query', 'path', 'body'],
];

const SIDECAR_BUCKETS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 300, 1000];
const UPSTREAM_BUCKETS_MS = [
  ...[1, 2.5, 5, 10, 25, 50, 100, 250, 500],
  ...[1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000],
];
const STORE_BUCKETS_MS = [0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 50, 100, 500, 2000];

const OPERATION = label('operation', STORE_OPERATIONS);

/** Recorded as it happens. No label may be a session id or key: its values are a closed set. */
// prettier-ignore
export const RECORDED = {
  requestDecided: counter('fly_affinity_requests_total', 'Decisions about requests, by reason; each sidecar that a request passes counts its own.', label('decision', DECISION_KINDS), label('why', WHYS)),
  clientRequest: counter('fly_affinity_client_requests_total', 'Requests of clients, by the protocol of the session id and the status of the response; counted once, by the sidecar that hands the response to the edge.', protocolLabel(NO_PROTOCOL), statusLabel()),
  sessionLost: counter('fly_affinity_lost_session_requests_total', 'Requests whose session id got a 404 of the sidecar, by reason; counted once, by the sidecar that made it.', label('why', LOST_WHYS)),
  sessionUnavailable: counter('fly_affinity_unavailable_session_requests_total', 'Requests whose session id got a 503 of the sidecar, by reason; counted once, by the sidecar that made it.', label('why', WHYS)),
  sessionOpened: counter('fly_affinity_sessions_opened_total', 'New sessions of this Machine, by protocol; without those that it takes over.', protocolLabel()),
  sessionEnded: counter('fly_affinity_sessions_ended_total', 'Sessions of this Machine that ended before they expired, by protocol and reason.', protocolLabel(), label('why', END_REASONS)),
  replayFailed: counter('fly_affinity_replays_failed_total', 'Replayed requests that Fly Proxy could not deliver, by its reason.', label('reason', REPLAY_FAILURE_REASONS)),
  sessionRequest: counter('fly_affinity_session_requests_total', 'Requests with a session id that the app of this Machine served, by protocol; counted once, there.', protocolLabel()),
  responseSent: counter('fly_affinity_responses_total', 'Responses by status class, replays included; each sidecar that a request passes counts its own; 499: the client disconnected before a response.', statusLabel()),
  sidecarTime: histogram('fly_affinity_sidecar_seconds', 'Time that the sidecar adds until the head of the response.', SIDECAR_BUCKETS_MS),
  upstreamTime: histogram('fly_affinity_upstream_seconds', 'Time to the first byte of the response of the app or a peer; the owner of a forwarded request counts its app, the sender its peer.', UPSTREAM_BUCKETS_MS, label('upstream', UPSTREAMS)),
  openStreams: gauge('fly_affinity_open_streams', 'Open responses and sockets.', label('kind', STREAM_KINDS)),
  connectionFault: counter('fly_affinity_connection_faults_total', 'Connections ended by an unexpected error in the sidecar: a defect, see the log.'),
  connectionRefused: counter('fly_affinity_connections_refused_total', 'Connections refused because MAX_CONNECTIONS were open.'),
  peerQuery: counter('fly_affinity_peer_questions_total', 'Owner lookups among the peers, by outcome; shed: not sent, because too many were in flight.', label('outcome', QUERY_OUTCOMES)),
  announcementDropped: counter('fly_affinity_announcements_dropped_total', 'Announcements to peers dropped because a queue was full.'),
  bindingImported: counter('fly_affinity_bindings_read_total', 'Bindings imported from peers at the start.'),
  claimConflict: counter('fly_affinity_claim_conflicts_total', 'Sessions that two Machines had claimed, and one released.'),
  suspendEnded: counter('fly_affinity_suspends_total', 'Attempts of this Machine to suspend itself, by outcome; aborted: it was used again, or a peer did not respond.', label('outcome', SUSPEND_OUTCOMES)),
  sessionReleased: counter('fly_affinity_sessions_released_total', 'Sessions that no longer belong to this Machine, by reason.', label('why', RELEASE_REASONS)),
  storeOperation: counter('fly_affinity_store_operations_total', 'Operations of the session store, by outcome.', OPERATION, label('outcome', ['ok', 'error'])),
  storeOperationTime: histogram('fly_affinity_store_operation_seconds', 'Duration of store operations, including waiting.', STORE_BUCKETS_MS, OPERATION),
  storeChangeFlushed: counter('fly_affinity_store_write_back_total', 'Changes accepted while the store failed, by what became of them.', label('result', WRITE_BACK_RESULTS)),
} as const;

/** Read at every scrape, by the function given last. Before that the metric shows `initial`, or nothing. */
// prettier-ignore
export const SAMPLED = {
  upstreamUp: sampled('fly_affinity_upstream_up', '1 while the app takes requests; 0 while new sessions go to other Machines because it does not.', 1),
  peers: sampled('fly_affinity_peers', 'Other running Machines of the fleet: those that answer heartbeats, and those that are silent.', { answering: 0, silent: 0 }, label('state', ['answering', 'silent'])),
  ownSessions: sampled<number>('fly_affinity_own_sessions', 'Sessions of this Machine, counted up to twice MAX_SESSIONS_PER_MACHINE.', undefined),
} as const;

/** Read at every scrape from the store's own counts; 0 until the first successful read. */
// prettier-ignore
export const FROM_STORE: readonly StoreRow<StoreMetrics>[] = [
  { type: 'gauge', name: 'fly_affinity_sessions', help: 'Sessions in the store that have not expired.', read: ({ total, expired }) => total - expired },
  { type: 'gauge', name: 'fly_affinity_sessions_expired', help: 'Expired sessions that are not removed yet.', read: ({ expired }) => expired },
  { type: 'gauge', name: 'fly_affinity_store_size_bytes', help: 'Size of the database and its write-ahead log on disk.', read: ({ sizeBytes }) => sizeBytes },
  { type: 'gauge', name: 'fly_affinity_store_last_cleanup_timestamp_seconds', help: 'When expired sessions were last removed; 0: not yet.', read: ({ lastCleanupAt = 0 }) => lastCleanupAt / 1000 },
  { type: 'counter', name: 'fly_affinity_store_lookups_total', help: 'Sessions looked up.', read: ({ lookups }) => lookups },
  { type: 'counter', name: 'fly_affinity_store_upserts_total', help: 'Sessions written.', read: ({ upserts }) => upserts },
  { type: 'counter', name: 'fly_affinity_store_deletes_total', help: 'Sessions removed.', read: ({ deletes }) => deletes },
  { type: 'counter', name: 'fly_affinity_store_errors_total', help: 'Operations that failed.', read: ({ errors }) => errors },
];

/** Read at every scrape, even if the store does not respond. */
// prettier-ignore
export const FROM_STORE_HEALTH: readonly StoreRow<StoreHealth>[] = [
  { type: 'gauge', name: 'fly_affinity_store_degraded', help: '1 while reads or writes of the store fail and memory replaces it.', read: ({ failing }) => (failing === 'none' ? 0 : 1) },
  { type: 'gauge', name: 'fly_affinity_store_write_back_depth', help: 'Changes accepted while the store failed and not written yet.', read: ({ writeBack }) => writeBack.depth },
  { type: 'gauge', name: 'fly_affinity_store_write_back_age_seconds', help: 'Age of the oldest of these changes.', read: ({ writeBack }) => writeBack.ageMs / 1000 },
];

/** A label and its values. `classify`: how to get the value from what the program records. */
export interface Label<Recorded extends string | number = string> {
  readonly name: string;
  /** Anything else is counted as `other`. */
  readonly values: readonly string[];
  readonly classify?: (recorded: Recorded) => string;
}

type Labels = readonly Label<never>[];

interface Row<Kind extends string, L extends Labels> {
  readonly kind: Kind;
  readonly name: string;
  readonly help: string;
  readonly labels: L;
}

export type CounterRow<L extends Labels = Labels> = Row<'counter' | 'gauge', L>;
export interface HistogramRow<L extends Labels = Labels> extends Row<'histogram', L> {
  readonly bucketsMs: readonly number[];
}
export interface SampledRow<Value = number | Readonly<Record<string, number>>> extends Row<
  'sampled',
  Labels
> {
  readonly initial: Value | undefined;
}

export interface StoreRow<Source> {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly read: (source: Source) => number;
}

type Recorded<L extends Labels> = {
  readonly [Index in keyof L]: L[Index] extends Label<infer Value> ? Value : never;
};

/** Counts one, or `by`: negative for a gauge that goes down. */
type Count<L extends Labels> = (...recorded: [...Recorded<L>, by?: number]) => void;
type Observe<L extends Labels> = (durationMs: number, ...recorded: Recorded<L>) => void;
type Sample<Value> = (read: () => Value) => void;

type RecordersOf<Table> = {
  readonly [Name in keyof Table]: Table[Name] extends HistogramRow<infer L>
    ? Observe<L>
    : Table[Name] extends CounterRow<infer L>
      ? Count<L>
      : Table[Name] extends SampledRow<infer Value>
        ? Sample<Value>
        : never;
};

/** One function for each row. They never wait or throw, and hardly allocate: requests call them. */
export type Recorders = RecordersOf<typeof RECORDED> & RecordersOf<typeof SAMPLED>;

export interface WatchedStore {
  getMetrics(): Promise<StoreMetrics>;
  health(): StoreHealth;
}

/** What a counter has counted for these values of its labels. */
export interface CountSample {
  readonly values: readonly string[];
  readonly count: number;
}

export function sumOf(samples: readonly CountSample[]): number {
  return samples.reduce((sum, { count }) => sum + count, 0);
}

export interface Metrics extends Recorders {
  /** The counts of a counter so far, without most that are 0; empty for a histogram. */
  readonly counts: (name: keyof typeof RECORDED) => readonly CountSample[];
  /** The store to read at every scrape; replaces an earlier one. */
  readonly watchStore: (store: WatchedStore) => void;
  /** The text that Prometheus reads. Waits for the store for two seconds, then shows what it last had. */
  readonly render: () => Promise<string>;
  readonly contentType: string;
  /** Stops what measures in the background. A second call does nothing. */
  readonly close: () => void;
}

function ignore(): void {
  // nullMetrics records nothing.
}

/** Records nothing: for tests and tools. */
export const nullMetrics: Metrics = {
  ...(Object.fromEntries(
    [...Object.keys(RECORDED), ...Object.keys(SAMPLED)].map((name) => [name, ignore]),
  ) as unknown as Recorders),
  counts: () => [],
  watchStore: ignore,
  render: () => Promise.resolve(''),
  contentType: 'text/plain',
  close: ignore,
};

function label<const Value extends string>(
  name: string,
  values: readonly Value[],
): Label<Value | 'other'> {
  return { name, values };
}

/** `path:REGEX` counts as `path`: the setting is too long for a label. */
function protocolLabel(...more: readonly string[]): Label {
  return { name: 'protocol', values: [...PROTOCOL_NAMES, ...more], classify: kindOfProtocol };
}

/** Of what a setting spells itself, only the kind: its pattern may be one of paths. */
export function kindOfProtocol(name: string): string {
  const colon = name.indexOf(':');
  return colon === -1 ? name : name.slice(0, colon);
}

function statusLabel(): Label<number> {
  const classes = ['other', ...STATUS_CLASSES];
  const classify = (statusCode: number): string =>
    statusCode === 499 ? '499' : (classes[Math.floor(statusCode / 100)] ?? 'other');
  return { name: 'status', values: STATUS_CLASSES, classify };
}

function counter<const L extends Labels>(name: string, help: string, ...labels: L): CounterRow<L> {
  return { kind: 'counter', name, help, labels };
}

function gauge<const L extends Labels>(name: string, help: string, ...labels: L): CounterRow<L> {
  return { kind: 'gauge', name, help, labels };
}

function histogram<const L extends Labels>(
  name: string,
  help: string,
  bucketsMs: readonly number[],
  ...labels: L
): HistogramRow<L> {
  return { kind: 'histogram', name, help, labels, bucketsMs };
}

function sampled<Value>(
  name: string,
  help: string,
  initial: Value | undefined,
  ...labels: Labels
): SampledRow<Value> {
  return { kind: 'sampled', name, help, labels, initial };
}
