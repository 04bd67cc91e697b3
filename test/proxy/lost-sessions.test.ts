/** A session that the sidecar itself reports as lost is counted, whatever its protocol's status is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMetrics } from '../support/metrics.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const LOST = 'fly_affinity_lost_session_requests_total{why="unknown-session"}';

for (const [protocol, target, headers, status] of [
  ['mcp', '/mcp', { 'mcp-session-id': 'nobody-knows-it' }, 404],
  ['socket.io', '/socket.io/?EIO=4&transport=polling&sid=nobodyKnowsItAAAAAA', {}, 400],
] as const) {
  test(`an unknown session of ${protocol} is counted once`, async (t) => {
    const appPort = await serveApp(t, (_, response) => response.end('served'));
    const metrics = openMetrics(t);
    const env = { SESSION_PROTOCOLS: protocol, UNKNOWN_SESSION: 'reject' };
    const { ports } = await startTestSidecar(t, appPort, env, { metrics });
    const url = `http://127.0.0.1:${ports.public}`;
    const refused = await fetch(`${url}${target}`, { headers });
    const served = await fetch(`${url}/without-an-id`);
    await Promise.all([refused.text(), served.text()]);
    assert.deepEqual([refused.status, served.status], [status, 200]);
    const text = await metrics.render();
    assert.ok(text.includes(`\n${LOST} 1\n`));
    const counted = `fly_affinity_client_requests_total{protocol="${protocol}",status="4xx"} 1`;
    assert.ok(text.includes(`\n${counted}\n`));
  });
}
