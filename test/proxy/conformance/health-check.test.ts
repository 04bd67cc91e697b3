/** The health check of the app carries a user's host and scheme, which some apps require. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { serveApp, startTestSidecar } from '../../support/sidecar.ts';

/** More than the two failures in a row that mark an app down. */
const CHECKS = 4;

describe('the health check passes for an app that', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, statusOf: (request: IncomingMessage) => number])[] = [
    ['accepts every request', () => 200],
    ['redirects http to https (force_ssl of Rails)', ({ headers }) => (headers['x-forwarded-proto'] === 'https' ? 200 : 301)],
    ['accepts only its own host (ALLOWED_HOSTS of Django)', ({ headers }) => (headers.host === 'my-app.fly.dev' ? 200 : 400)],
    ['requires both', ({ headers }) => (headers.host === 'my-app.fly.dev' && headers['x-forwarded-proto'] === 'https' ? 200 : 403)],
  ];
  for (const [claim, statusOf] of rows) {
    test(claim, async (t) => {
      const checked = Promise.withResolvers<undefined>();
      let checks = 0;
      const app = await serveApp(t, (req, res) => {
        if (req.url === '/up') checks += 1;
        if (checks === CHECKS) checked.resolve(undefined);
        res.writeHead(statusOf(req), { location: 'https://my-app.fly.dev/' }).end();
      });
      const sidecar = await startTestSidecar(t, app, {
        FLY_APP_NAME: 'my-app',
        UPSTREAM_CHECK_PATH: '/up',
        UPSTREAM_CHECK_INTERVAL_MS: '100',
      });
      await checked.promise;
      assert.deepEqual(sidecar.readiness().upstream, { state: 'up' });
    });
  }
});
