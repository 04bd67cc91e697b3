/** `/livez`, `/readyz` and `/metrics`, for health checks and Prometheus. */
import { respond, respondJson, TEXT_TYPE, type AdminCall } from './router.ts';
import type { UpstreamStatus } from '../proxy/upstream-health.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { StoreHealth } from '../store/store.ts';

/** The body of `/readyz`: 200 if ready, else 503. Never contains an id or an address. */
export interface Readiness {
  readonly ready: boolean;
  /** Why the sidecar is not ready: `starting`, `draining` (after a signal) or `drained` (by the operator). */
  readonly reason?: string | undefined;
  readonly store: { readonly kind: string } & Partial<StoreHealth>;
  /** `silent`: how many of the other Machines are unresponsive. */
  readonly fleet: { readonly kind: string; readonly others?: number; readonly silent?: number };
  /** A Machine whose app is down stays ready: its sessions must still reach it. */
  readonly upstream?: UpstreamStatus | undefined;
}

export interface HealthParts {
  readonly metrics: Pick<Metrics, 'render' | 'contentType'>;
  readonly readiness: () => Readiness;
  readonly status: () => Status;
}

/** The body of `/status`, always 200. Never contains an id or an address. */
export interface Status extends Readiness {
  readonly machine: string;
  /** Requests with a session id that this Machine has served since its start, by protocol. */
  readonly protocols: Readonly<Record<string, number>>;
}

export function status({ response }: AdminCall, parts: HealthParts): void {
  respondJson(response, 200, parts.status());
}

export function livez({ response }: AdminCall): void {
  respond(response, 200, TEXT_TYPE, 'ok\n');
}

export function readyz({ response }: AdminCall, { readiness }: HealthParts): void {
  const now = readiness();
  respondJson(response, now.ready ? 200 : 503, now);
}

export async function renderMetrics(
  { response }: AdminCall,
  { metrics }: HealthParts,
): Promise<void> {
  respond(response, 200, metrics.contentType, await metrics.render());
}
