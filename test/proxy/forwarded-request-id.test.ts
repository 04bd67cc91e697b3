/** One request has one id in the logs of all sidecars that it passes. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { createMemoryLog } from '../support/log.ts';
import { serveApp } from '../support/sidecar.ts';

/** The request ids that m1, where the request arrives, and m2, the owner, log for a forwarded request. */
async function forward(
  t: TestContext,
  headers: Record<string, string>,
): Promise<{ readonly m1: unknown[]; readonly m2: unknown[] }> {
  const ids: { m1: unknown[]; m2: unknown[] } = { m1: [], m2: [] };
  const logOf = (at: 'm1' | 'm2') =>
    createMemoryLog((line) => ids[at].push((line as { requestId: unknown }).requestId));
  const fleet = await openFleet(t, 'm1', 'm2');
  const appPort = await serveApp(t, (req, res) => req.resume().once('end', () => res.end('ok')));
  const m1 = await fleet.start('m1', appPort, {}, { logger: logOf('m1').logger });
  await fleet.start('m2', appPort, {}, { logger: logOf('m2').logger });
  // Of unknown length: the edge could not replay it.
  const body = new Blob(['x']).stream();
  const response = await fetch(`${m1.url}/rpc`, {
    ...{ method: 'POST', duplex: 'half', body },
    headers: { ...headers, 'mcp-session-id': 'abc~m2' },
  });
  assert.equal(await response.text(), 'ok');
  await until(() => ids.m1.length > 0 && ids.m2.length > 0);
  return ids;
}

test('a request id that the sidecar generates is that of the peer too', async (t) => {
  const { m1, m2 } = await forward(t, {});
  assert.match(String(m1[0]), /^[\da-f-]{36}-1$/);
  assert.deepEqual(m2, m1);
});

test('the request id of the edge is used by both', async (t) => {
  const ids = await forward(t, { 'fly-request-id': '01H-fra' });
  assert.deepEqual(ids, { m1: ['01H-fra'], m2: ['01H-fra'] });
});

test('a client can not give a request id in the name of a peer', async (t) => {
  const { m1, m2 } = await forward(t, { 'x-fly-affinity-request-id': 'forged' });
  assert.notEqual(m1[0], 'forged');
  assert.deepEqual(m2, m1);
});
