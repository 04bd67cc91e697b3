/** `/status`: everything that the status page shows, as JSON. */
import { respondJson, type AdminCall } from './router.ts';
import type { Readiness } from './health.ts';
import type { MachineReport } from '../fleet/machine-reports.ts';
import type { CountSample } from '../observability/metrics.ts';
import type { RecentEvent } from '../observability/recent-events.ts';
import type { NotAccepting } from '../routing/decision.ts';
import type { DrainState } from '../routing/placement.ts';
import type { StoreMetrics } from '../store/store.ts';

/**
 * The body of `/status`, always 200. Never contains a session id. What names hosts or paths is in `detail`, in
 * `address` and `detail` of the parts, and in the reasons of failures of the store and the list of Machines:
 * only for those who have the token.
 */
export interface Status extends Readiness {
  readonly machine: string;
  readonly app: string | undefined;
  readonly region: string | undefined;
  readonly processGroup: string | undefined;
  readonly version: string;
  /** Both in ms since the epoch. */
  readonly startedAt: number;
  readonly now: number;
  readonly drain: DrainState;
  /** Why new sessions go to other Machines; undefined if they are taken. */
  readonly notAccepting: NotAccepting | undefined;
  readonly requests: RequestStatus;
  readonly sessions: SessionStatus;
  /** The other Machines. */
  readonly machines: readonly MachineReport[];
  /** Requests with a session id that this Machine has served since its start, by protocol. */
  readonly protocols: Readonly<Record<string, number>>;
  /** Presets that requests look like, and that `SESSION_PROTOCOLS` lacks. */
  readonly missingPresets: readonly string[];
  /** What the store holds and has done; undefined if it does not respond. */
  readonly storeMetrics: StoreMetrics | undefined;
  readonly events: {
    readonly ofSessions: readonly RecentEvent[];
    readonly others: readonly RecentEvent[];
  };
  readonly detail: StatusDetail | undefined;
}

/** Counts since the start, each with the values of its labels, in the order of `docs/operations.md`. */
export interface RequestStatus {
  /** Requests and tunnels in flight. */
  readonly open: number;
  /** By `kind`. */
  readonly openStreams: readonly CountSample[];
  /** Decisions of the last seconds; undefined before the second reading. */
  readonly perSecond: number | undefined;
  /** By `decision`, `why`. */
  readonly decisions: readonly CountSample[];
  /** By `protocol`, `status`. */
  readonly ofClients: readonly CountSample[];
  /** By `reason`. */
  readonly replaysFailed: readonly CountSample[];
  /** By `why`. */
  readonly lost: readonly CountSample[];
  /** By `why`. */
  readonly unavailable: readonly CountSample[];
}

export interface SessionStatus {
  /** By their owner, as the store of this Machine has them; undefined before the first count. */
  readonly byMachine: Readonly<Record<string, number>> | undefined;
  /** `MAX_SESSIONS_PER_MACHINE`; 0: no limit. */
  readonly limit: number;
  readonly conflicts: number;
  /** By `why`. */
  readonly released: readonly CountSample[];
}

interface StatusDetail {
  readonly upstream: string;
  /** The path of the store's file, or host and name of its database. */
  readonly store: string;
}

export interface StatusParts {
  /** Never rejects. `isDetailed`: with what names hosts and paths. */
  readonly status: (isDetailed: boolean) => Promise<Status>;
}

export async function respondStatus(
  { response, access }: AdminCall,
  { status }: StatusParts,
): Promise<void> {
  respondJson(response, 200, await status(access === 'full'));
}
