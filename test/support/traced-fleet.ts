/** Sidecars that send traces to a real collector, behind the simulated edge, each in front of an app. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Environment } from '../../src/config/config.ts';
import { startTestEdge } from '../simulator/support.ts';
import { startCollector, type CollectedSpan, type Collector } from './collector.ts';
import { openFleet, type TestMachine } from './fleet.ts';
import { machineId } from './ids.ts';
import { serve } from './sidecar.ts';

/** A request as an app received it. */
export interface SeenRequest {
  readonly at: string;
  readonly headers: IncomingHttpHeaders;
}

export interface TracedFleet {
  readonly collector: Collector;
  readonly machines: ReadonlyMap<string, TestMachine>;
  readonly seen: readonly SeenRequest[];
  /** Through the edge, which selects this Machine first. */
  send(first: string, init: TracedRequest): Promise<Response>;
  /** Of the edge. */
  readonly url: string;
  /** Stops the sidecars, which sends their last spans: all of them, by Machine. */
  stop(): Promise<ReadonlyMap<string, readonly CollectedSpan[]>>;
}

interface TracedRequest extends RequestInit {
  readonly path?: string;
  readonly headers?: Record<string, string>;
}

/** Of `m1`, as its client knows it. */
export const SESSION = 'a-secret-session-id~m1';

export async function startTracedFleet(
  t: TestContext,
  ids: readonly string[] = ['m1', 'm2'],
  env: Environment | ((id: string, collector: Collector) => Environment) = {},
  parts: Partial<SidecarParts> = {},
): Promise<TracedFleet> {
  const collector = await startCollector(t);
  const fleet = await openFleet(t, ...ids);
  const seen: SeenRequest[] = [];
  const machines = new Map<string, TestMachine>();
  for (const id of ids) {
    const appPort = await serveApp(t, id, seen);
    const own = typeof env === 'function' ? env(id, collector) : env;
    const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...own };
    machines.set(id, await fleet.start(id, appPort, settings, parts));
  }
  const edge = await startTestEdge(
    t,
    [...machines].map(([id, { sidecar }]) => ({
      ...{ id: machineId(id), app: 'shop', region: 'iad', state: 'started' as const },
      ...{ port: sidecar.ports.public, wake: () => Promise.resolve() },
    })),
  );
  return {
    ...{ collector, machines, seen, url: edge.url },
    send: (first, { path = '/call', headers = {}, ...init }) =>
      fetch(edge.url + path, { ...init, headers: { ...headers, 'fly-prefer-instance-id': first } }),
    stop: async () => {
      for (const { sidecar } of machines.values()) await sidecar.stop();
      const { spans } = collector;
      return Map.groupBy(spans, ({ resource }) => String(resource['service.instance.id']));
    },
  };
}

/** `/stream` is an event stream that the app never ends. */
async function serveApp(t: TestContext, at: string, seen: SeenRequest[]): Promise<number> {
  const server = createServer((request, response) => {
    const { url, headers } = request;
    seen.push({ at, headers });
    if (url === '/fail') response.statusCode = 500;
    if (url === '/stream') {
      response.setHeader('content-type', 'text/event-stream');
      response.write('data: first\n\n');
      return;
    }
    request.resume().once('end', () => response.end(at));
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, { headers }) => {
    seen.push({ at, headers });
    socket.on('message', (data) => socket.send(data));
  });
  return serve(t, server);
}
