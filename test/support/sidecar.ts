/** A whole sidecar in this process, on free ports, for tests of the wire. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { startSidecar, type SidecarParts } from '../../src/app/app.ts';
import { systemClock } from '../../src/clock.ts';
import { parseConfig, type Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { nullLogger } from '../../src/observability/log.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';

/** Listens on a free port of 127.0.0.1 until the test ends; returns the port. */
export async function serve(t: TestContext, server: Server): Promise<number> {
  // The server's own list lacks WebSockets; in a failed test its close would wait for them forever.
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  );
  return (server.address() as AddressInfo).port;
}

export const serveApp = (t: TestContext, app: RequestListener): Promise<number> =>
  serve(t, createServer(app));

/** Starts a sidecar in front of the app on `appPort`; it ends with the test. */
export async function startTestSidecar(
  t: TestContext,
  appPort: number,
  env: Environment = {},
  parts: Partial<SidecarParts> = {},
): Promise<Sidecar> {
  const parsed = parseConfig(
    {
      HOST: '127.0.0.1',
      PORT: '0',
      PEER_PORT: '0',
      ADMIN_PORT: '0',
      FLY_MACHINE_ID: 'm1',
      FLEET: 'off',
      SESSION_STORE_URL: 'memory:',
      DRAIN_TIMEOUT_MS: '100',
      UPSTREAM_URL: `http://127.0.0.1:${appPort}`,
      ...env,
    },
    () => 0.5,
  );
  assert.ok(parsed.config, parsed.mistakes?.join('\n'));
  const sidecar = await startSidecar(parsed.config, {
    clock: systemClock,
    random: () => 0.5,
    logger: nullLogger,
    metrics: nullMetrics,
    ...parts,
  });
  t.after(() => sidecar.stop());
  return sidecar;
}
