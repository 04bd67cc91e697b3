/** The `/readyz` response of a sidecar. */
import type { UpstreamStatus } from '../../src/proxy/upstream-health.ts';
import type { StoreHealth } from '../../src/store/store.ts';

interface ReadinessResponse {
  readonly status: number;
  readonly reason?: string;
  readonly store: { readonly kind: string } & Partial<StoreHealth>;
  readonly upstream?: UpstreamStatus;
  readonly fleet: { readonly kind: string; readonly others: number };
}

export async function readinessAt(adminPort: number): Promise<ReadinessResponse> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/readyz`);
  return {
    status: response.status,
    ...((await response.json()) as Omit<ReadinessResponse, 'status'>),
  };
}
