/** The admin port shows nothing to a web page that lets its own name lead there (DNS rebinding). */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { test } from 'node:test';
import { isPublicHost } from '../../src/admin/public-host.ts';
import { AUTHORIZED, openAdmin } from './support.ts';

const PUBLIC = [
  'evil.example',
  'evil.example:9091',
  'EVIL.example.',
  '127.0.0.1.evil.example',
  'local.evil',
];
const PRIVATE = [
  ...['localhost', 'localhost:9091', 'app.localhost', 'sidecar', 'sidecar:9091', '', undefined],
  ...['127.0.0.1', '127.0.0.1:9091', '[::1]:9091', '[fdaa::3]', '10.0.0.1'],
  ...[
    '1234.vm.my-app.internal:9091',
    'My-App.Internal.',
    'my-app.flycast',
    'ip-10-0-0-1.ec2.internal',
  ],
  ...['prometheus.monitoring.svc.cluster.local:9091', 'web.service.consul', 'shop.test'],
];

test('only names of the public DNS are public', () => {
  for (const host of PUBLIC) assert.ok(isPublicHost(host), host);
  for (const host of PRIVATE) assert.ok(!isPublicHost(host), host);
});

async function statusOf(
  port: number,
  path: string,
  headers: http.OutgoingHttpHeaders,
): Promise<number> {
  const request = http.get({ port, path, headers, agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  await once(response, 'end');
  return response.statusCode ?? 0;
}

for (const [path, withoutToken] of [
  ['/', 403],
  ['/status', 403],
  ['/metrics', 403],
  ['/sessions', 401],
  ['/livez', 200],
  ['/readyz', 200],
] as const) {
  test(`${path} under a name of the public DNS gets ${withoutToken} without the token`, async (t) => {
    const { admin } = await openAdmin(t);
    const host = 'evil.example:9091';
    assert.equal(await statusOf(admin.port, path, { host }), withoutToken);
    assert.equal(await statusOf(admin.port, path, { host, ...AUTHORIZED }), 200);
  });
}

test('without a token setting, a name of the public DNS gets 403, and an address is served', async (t) => {
  const { admin } = await openAdmin(t, { token: undefined });
  assert.equal(await statusOf(admin.port, '/metrics', { host: 'evil.example' }), 403);
  assert.equal(await statusOf(admin.port, '/metrics', { host: '127.0.0.1' }), 200);
});
