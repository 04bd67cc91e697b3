/** The sidecar's own check of the app: it looks like a request of a user, for whose host and scheme apps ask. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { serveApp, startTestSidecar } from '../../support/sidecar.ts';

/** Two failed ones in a row are needed to take an app for down. */
const CHECKS = 4;

describe('an app that serves its users is not taken for down because', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, statusOf: (request: IncomingMessage) => number])[] = [
    ['of nothing', () => 200],
    ['it redirects to https (force_ssl of Rails)', ({ headers }) => (headers['x-forwarded-proto'] === 'https' ? 200 : 301)],
    ['it knows only its own host (ALLOWED_HOSTS of Django)', ({ headers }) => (headers.host === 'my-app.fly.dev' ? 200 : 400)],
    ['it wants both', ({ headers }) => (headers.host === 'my-app.fly.dev' && headers['x-forwarded-proto'] === 'https' ? 200 : 403)],
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
