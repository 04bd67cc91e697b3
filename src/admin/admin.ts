/** The admin listener and its endpoints: a new one is a handler in a file of its own, and a line below. */
import type { Server } from 'node:http';
import { boundConnections } from './connections.ts';
import { drain, drainStatus, undrain, type DrainParts } from './drain.ts';
import { explainBody, explainQuery, type ExplainRouteParts } from './explain.ts';
import { livez, readyz, renderMetrics, type HealthParts } from './health.ts';
import { AdminRouter, type Route } from './router.ts';
import {
  handleDeleteSession,
  handleExportSessions,
  handleGetSession,
  handleImportSessions,
  type SessionsParts,
} from './sessions.ts';
import { respondStatus } from './status.ts';
import { handleForm, showPage, type StatusPageParts } from './status-page.ts';
import { listen, type ListenAddress } from '../http/listener.ts';
import { createServer } from '../http/node-http.ts';

type AdminParts = HealthParts & StatusPageParts & DrainParts & ExplainRouteParts & SessionsParts;

const ROUTES: readonly Route<AdminParts>[] = [
  { methods: ['GET', 'HEAD'], path: '/', auth: 'detail', handle: showPage },
  { methods: ['POST'], path: '/', auth: 'detail', handle: handleForm },
  { methods: ['GET', 'HEAD'], path: '/livez', auth: 'none', isHealthCheck: true, handle: livez },
  {
    methods: ['GET', 'HEAD'],
    path: '/readyz',
    auth: 'detail',
    isHealthCheck: true,
    handle: readyz,
  },
  { methods: ['GET', 'HEAD'], path: '/status', auth: 'detail', handle: respondStatus },
  { methods: ['GET', 'HEAD'], path: '/metrics', auth: 'none', handle: renderMetrics },
  { methods: ['GET', 'HEAD'], path: '/drain', auth: 'token', handle: drainStatus },
  { methods: ['POST'], path: '/drain', auth: 'token', handle: drain },
  { methods: ['POST'], path: '/undrain', auth: 'token', handle: undrain },
  { methods: ['GET'], path: '/explain', auth: 'token', handle: explainQuery },
  { methods: ['POST'], path: '/explain', auth: 'token', handle: explainBody },
  { methods: ['GET'], path: '/sessions', auth: 'token', handle: handleExportSessions },
  { methods: ['POST'], path: '/sessions', auth: 'token', handle: handleImportSessions },
  { methods: ['GET'], path: '/sessions/*', auth: 'token', handle: handleGetSession },
  { methods: ['DELETE'], path: '/sessions/*', auth: 'token', handle: handleDeleteSession },
];

/** Without a token the endpoints that need it are not there. */
export type AdminOptions = ListenAddress & AdminParts;

export interface Admin {
  readonly port: number;
  /** Closes every connection; resolves when no request is in flight and the port is closed. */
  stop(): Promise<void>;
}

/** In ms. An import may take its time. */
const TIMEOUTS = { headersTimeout: 10_000, requestTimeout: 0 };
/** A connection on which nothing moves for this long is closed, in ms: its client reads no more. */
const IDLE_TIMEOUT_MS = 120_000;
const MAX_CONNECTIONS = 256;

/** Rejects if it can't listen. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { token, clock, logger } = options;
  const router = new AdminRouter({ routes: ROUTES, parts: options, token, clock, logger });
  const server = createServer(TIMEOUTS, (request, response) => router.handle(request, response));
  boundConnections(server, MAX_CONNECTIONS, (socket) => router.isOfOperator(socket));
  server.setTimeout(IDLE_TIMEOUT_MS);
  const port = await listen(server, options);
  return {
    port,
    stop: async () => {
      await closeServer(server);
      await router.idle();
    },
  };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
