/** `/livez`, `/readyz` and `/metrics`, for health checks and Prometheus. */
import { respond, respondJson, TEXT_TYPE, type AdminCall } from './router.ts';
import type { UpstreamStatus } from '../proxy/upstream-health.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { StoreHealth } from '../store/store.ts';

/** The body of `/readyz`: 200 if ready, else 503. Never contains an id. */
export interface Readiness {
  readonly ready: boolean;
  /** Why the sidecar is not ready: `starting`, `draining` (after a signal) or `drained` (by the operator). */
  readonly reason?: string | undefined;
  /** The reason may name a host or a path: only for those who have the token. */
  readonly store: { readonly kind: string } & Partial<StoreHealth>;
  /** `silent`: how many of the other Machines are unresponsive. */
  readonly fleet: {
    readonly kind: string;
    readonly others?: number;
    readonly silent?: number;
    /** How many have announced that they sleep. */
    readonly asleep?: number;
    /** Why the list of Machines can't be read: only in `/status`, for those who have the token. */
    readonly reason?: string | undefined;
  };
  /** With `SUSPEND_AFTER`. */
  readonly sleep?: SleepStatus | undefined;
  /** A Machine whose app is down stays ready: its sessions must still reach it. */
  readonly upstream?: UpstreamStatus | undefined;
}

/** How this Machine suspends itself. */
export interface SleepStatus {
  readonly state: 'awake' | 'preparing' | 'suspending';
  readonly suspendAfterMs: number;
  /** For how long no client has used this Machine. */
  readonly idleMs: number;
  /** Since the start of the sidecar. */
  readonly suspended: number;
  readonly failed: number;
  /** Whether the last attempt has failed. */
  readonly hasFailed: boolean;
  /** May name a path: only for those who have the token. */
  readonly lastFailure?: string | undefined;
}

export interface HealthParts {
  readonly metrics: Pick<Metrics, 'render' | 'contentType'>;
  readonly readiness: () => Readiness;
}

export function livez({ response }: AdminCall): void {
  respond(response, 200, TEXT_TYPE, 'ok\n');
}

export function readyz({ response, access }: AdminCall, { readiness }: HealthParts): void {
  const now = readiness();
  const shown = access === 'full' ? now : withoutReasons(now);
  respondJson(response, now.ready ? 200 : 503, shown);
}

/** Without what may name a host or a path. */
export function withoutReasons<Part extends Pick<Readiness, 'store' | 'sleep'>>(
  readiness: Part,
): Part {
  const { store, sleep } = readiness;
  return {
    ...readiness,
    store: { ...store, reason: undefined },
    sleep: sleep && { ...sleep, lastFailure: undefined },
  };
}

export async function renderMetrics(
  { response }: AdminCall,
  { metrics }: HealthParts,
): Promise<void> {
  respond(response, 200, metrics.contentType, await metrics.render());
}
