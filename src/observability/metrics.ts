/** What is measured, as the rest of the program says it. `metrics/prometheus.ts` stands behind it. */
import type { DecisionKind, Why } from '../routing/decision.ts';
import type { ReplayFailureReason } from '../fly.ts';
import type { StoreHealth, WriteBackResult } from '../store/health.ts';
import type { StoreMetrics, StoreOperation } from '../store/store.ts';

export type StoreOutcome = 'ok' | 'error';

export const STREAM_KINDS = ['http', 'websocket'] as const;
export type StreamKind = (typeof STREAM_KINDS)[number];

export const PEER_OUTCOMES = ['owner', 'none', 'inconclusive', 'shed'] as const;
export type PeerOutcome = (typeof PEER_OUTCOMES)[number];

export const RELEASE_REASONS = ['outranked', 'moved', 'deleted'] as const;
export type ReleaseReason = (typeof RELEASE_REASONS)[number];

export interface RequestTimes {
  /** From the request's arrival to the answer's head, without the upstream's share. */
  readonly sidecarMs: number;
  /** From the first byte sent to the app or a peer to its answer's head; undefined if none was asked. */
  readonly upstreamMs: number | undefined;
  /** As the client saw it; 499 for a client that left. */
  readonly statusCode: number;
}

export interface WatchedStore {
  getMetrics(): Promise<StoreMetrics>;
  health(): StoreHealth;
}

export interface FleetCount {
  readonly answering: number;
  readonly silent: number;
}

/**
 * Called on the request's way: nothing here waits, throws or allocates much. Label values come from
 * closed sets and are never a session id or key.
 */
export interface Metrics {
  readonly requestDecided: (kind: DecisionKind, why: Why) => void;
  /** A request came back undelivered; `other`: with a reason that is not known, or none. */
  readonly replayFailed: (reason: ReplayFailureReason | 'other') => void;
  readonly requestAnswered: (times: RequestTimes) => void;
  readonly streamOpened: (kind: StreamKind) => void;
  readonly streamClosed: (kind: StreamKind) => void;
  /** `shed`: not asked, as too much was being asked already. */
  readonly peerQuestion: (outcome: PeerOutcome) => void;
  /** Announcements that no longer found room in the queue to a peer. */
  readonly announcementsDropped: (count: number) => void;
  /** So many bindings of other Machines were read at the start. */
  readonly bindingsRead: (count: number) => void;
  /** Two Machines had adopted one id; one of them has given it up. */
  readonly claimConflict: () => void;
  /** A session of this Machine is not its own any more, and its streams are closed. */
  readonly sessionReleased: (why: ReleaseReason) => void;
  /** An unexpected error has ended a connection. */
  readonly connectionFault: () => void;
  /** A connection was refused, as `MAX_CONNECTIONS` were open. */
  readonly connectionRefused: () => void;
  readonly storeOperation: (
    operation: StoreOperation,
    outcome: StoreOutcome,
    durationMs: number,
  ) => void;
  /** What was accepted while the store failed has come to its end. */
  readonly storeWrittenBack: (result: WriteBackResult) => void;
  /** What to ask at every scrape; replaces an earlier one. */
  readonly watchStore: (store: WatchedStore) => void;
  /** How many sessions live here; there is no such gauge before. To be called once. */
  readonly watchOwnSessions: (count: () => number) => void;
  /** Whether the app takes requests; replaces an earlier one. */
  readonly watchUpstream: (isUp: () => boolean) => void;
  /** How many of the other Machines answer their heartbeats and how many do not; replaces an earlier one. */
  readonly watchFleet: (count: () => FleetCount) => void;
  /** The text Prometheus reads. Never waits longer than two seconds for the store: then it shows what it last knew. */
  readonly render: () => Promise<string>;
  readonly contentType: string;
  /** Stops what measures in the background. Calling it twice does nothing more. */
  readonly close: () => void;
}

/** Measures nothing: for tests and tools. */
export const nullMetrics: Metrics = {
  requestDecided: ignore,
  replayFailed: ignore,
  requestAnswered: ignore,
  streamOpened: ignore,
  streamClosed: ignore,
  peerQuestion: ignore,
  announcementsDropped: ignore,
  bindingsRead: ignore,
  claimConflict: ignore,
  sessionReleased: ignore,
  connectionFault: ignore,
  connectionRefused: ignore,
  storeOperation: ignore,
  storeWrittenBack: ignore,
  watchStore: ignore,
  watchOwnSessions: ignore,
  watchUpstream: ignore,
  watchFleet: ignore,
  render: () => Promise.resolve(''),
  contentType: 'text/plain',
  close: ignore,
};

function ignore(): void {
  // Measuring nothing is what nullMetrics is for.
}
