/** The admin listener: what Prometheus and the health checks ask. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { JSON_TYPE, respond, TEXT_TYPE } from './answer.ts';
import type { DrainRoutes } from './drain.ts';
import type { ExplainRoutes } from './explain.ts';
import type { SessionRoutes } from './sessions.ts';
import { listen, type ListenAddress } from '../http/listen.ts';
import { createServer } from '../http/node-http.ts';
import type { UpstreamStatus } from '../proxy/upstream-health.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { StoreHealth } from '../store/health.ts';

/** What `/readyz` says: 200 if ready, else 503, with this as JSON. Never an id or an address. */
export interface Readiness {
  readonly ready: boolean;
  /** Why not: `starting`, `draining` (a signal came) or `drained` (by the operator). */
  readonly reason?: string | undefined;
  readonly store: { readonly kind: string } & Partial<StoreHealth>;
  /** `silent`: how many of the others do not answer. */
  readonly fleet: { readonly kind: string; readonly others?: number; readonly silent?: number };
  /** An app that is down leaves this Machine ready: what lives here must still reach it. */
  readonly upstream?: UpstreamStatus | undefined;
}

export interface AdminOptions extends ListenAddress {
  readonly metrics: Pick<Metrics, 'render' | 'contentType'>;
  readonly readiness: () => Readiness;
  readonly logger: Logger;
  /** Undefined: `/sessions` is not there. */
  readonly sessions?: SessionRoutes | undefined;
  /** Undefined: `/drain` and `/undrain` are not there. */
  readonly drain?: DrainRoutes | undefined;
  /** Undefined: `/explain` is not there. */
  readonly explain?: ExplainRoutes | undefined;
}

export interface Admin {
  readonly port: number;
  /** Cuts what is under way and resolves once it has ended and the port is closed. */
  stop(): Promise<void>;
}

/** Rejects if it can't listen. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { sessions, drain, explain, logger } = options;
  const server = createServer(TIMEOUTS, (request, response) => {
    const routes = [sessions, drain, explain];
    if (routes.some((route) => route?.answer(request, response))) return;
    answer(options, request, response).catch((error: unknown) => {
      logger.error({ err: error }, 'admin request failed');
      respond(response, 500, TEXT_TYPE, 'failed\n');
    });
  });
  const port = await listen(server, options);
  return {
    port,
    stop: async () => {
      await closeServer(server);
      await sessions?.ended();
      await drain?.ended();
      await explain?.ended();
    },
  };
}

/** An import may take its time; a body that nobody wants is not waited for. */
const TIMEOUTS = { headersTimeout: 10_000, requestTimeout: 0 };
const METHODS: ReadonlySet<string | undefined> = new Set(['GET', 'HEAD']);

async function answer(
  { metrics, readiness }: AdminOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [path] = (request.url ?? '').split('?', 1);
  if (path !== '/metrics' && path !== '/livez' && path !== '/readyz') {
    respond(response, 404, TEXT_TYPE, 'not found\n');
  } else if (!METHODS.has(request.method)) {
    response.setHeader('allow', 'GET, HEAD');
    respond(response, 405, TEXT_TYPE, 'method not allowed\n');
  } else if (path === '/livez') {
    respond(response, 200, TEXT_TYPE, 'ok\n');
  } else if (path === '/readyz') {
    const now = readiness();
    respond(response, now.ready ? 200 : 503, JSON_TYPE, `${JSON.stringify(now)}\n`);
  } else {
    respond(response, 200, metrics.contentType, await metrics.render());
  }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
