/** The responses of the peer listener of a complete sidecar. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openFleet } from '../support/fleet.ts';
import { openClient } from '../support/raw.ts';
import { serveApp } from '../support/sidecar.ts';

describe('the peer listener', () => {
  const rows: readonly (readonly [
    path: string,
    headers: Record<string, string>,
    status: number,
  ])[] = [
    ['/', {}, 404],
    ['/v1/forward', {}, 400],
    ['/v1/forward', { 'x-fly-affinity-target': '/' }, 400],
    ['/v1/forward', { 'x-fly-affinity-machine': 'm1' }, 400],
    ['/v1/forward', { 'x-fly-affinity-target': '/', 'x-fly-affinity-machine': 'm2' }, 421],
    ['/v1/forward', { 'x-fly-affinity-target': 'a b', 'x-fly-affinity-machine': 'm1' }, 400],
    ['/v1/forward', { 'x-fly-affinity-target': '/', 'x-fly-affinity-machine': 'm1' }, 200],
  ];
  for (const [path, headers, status] of rows) {
    test(`returns ${status} for ${path} with ${JSON.stringify(headers)}`, async (t) => {
      const fleet = await openFleet(t, 'm1', 'm2');
      const m1 = await fleet.start('m1', await serveApp(t, (_req, res) => res.end()));
      const response = await fetch(`http://127.0.0.1:${m1.sidecar.ports.peer}${path}`, { headers });
      await response.text();
      assert.equal(response.status, status);
    });
  }

  test('returns 400 for a forward with two hosts', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const app = await serveApp(t, () => assert.fail('a request with two hosts reached the app'));
    const m1 = await fleet.start('m1', app);
    const client = await openClient(t, m1.sidecar.ports.peer);
    const ofForward = 'x-fly-affinity-target: /\r\nx-fly-affinity-machine: m1\r\n';
    const hosts = 'x-fly-affinity-host: a\r\nx-fly-affinity-host: b\r\n';
    client.send(`GET /v1/forward HTTP/1.1\r\nHost: m1\r\n${ofForward}${hosts}\r\n`);
    assert.match(await client.untilClosed(), /^HTTP\/1\.1 400 /);
  });

  test('returns 403 for every request from an unknown address', async (t) => {
    const fleet = await openFleet(t, 'm1');
    const app = await serveApp(t, () =>
      assert.fail('a request from an unknown address reached the app'),
    );
    const m1 = await fleet.start('m1', app, { FLEET: 'm9@127.0.0.9:9' });
    for (const path of ['/', '/v1/forward', '/v1/ask', '/v1/announce']) {
      const response = await fetch(`http://127.0.0.1:${m1.sidecar.ports.peer}${path}`);
      await response.text();
      assert.equal(response.status, 403);
    }
  });
});
