/** `X-Forwarded-For`: the sidecar keeps the edge's value, or adds the address of the client. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { openRawClient } from '../../support/raw.ts';
import { get, OF_M1, startPair, startRawSidecar, valuesOf, type RecordingApp } from './support.ts';

/** The `X-Forwarded-For` values that the app receives when a client connects to that local address. */
async function forwardedFor(
  t: TestContext,
  { app, port }: { readonly app: RecordingApp; readonly port: number },
  address: string,
  ...lines: readonly string[]
): Promise<string[]> {
  const client = await openRawClient(port, address);
  t.after(() => client.socket.destroy());
  client.send(get('/', ...lines));
  await client.until((text) => text.endsWith('ok'));
  const [request] = app.requests;
  assert.ok(request);
  return valuesOf(request, 'x-forwarded-for');
}

describe('the X-Forwarded-For that the sidecar adds', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, host: string, address: string, added: string])[] = [
    ['is an IPv4 address on an IPv4 listener', '127.0.0.1', '127.0.0.1', '127.0.0.1'],
    ['is an IPv4 address on a dual-stack listener', '::', '127.0.0.1', '127.0.0.1'],
    ['is an IPv6 address on a dual-stack listener', '::', '::1', '::1'],
  ];
  for (const [claim, host, address, added] of rows) {
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, { env: { HOST: host } });
      assert.deepEqual(await forwardedFor(t, sidecar, address), [added]);
    });
  }

  test('is the same for a forwarded request', async (t) => {
    const { forwarded } = await startPair(t, { env: { HOST: '::' } });
    assert.deepEqual(await forwardedFor(t, forwarded, '127.0.0.1', ...OF_M1), ['127.0.0.1']);
  });
});

describe('the X-Forwarded-For of the edge stays unchanged:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...values: string[]])[] = [
    ['a list', '203.0.113.7, 66.241.124.1'],
    ['two fields', '203.0.113.7', '66.241.124.1'],
    ['an IPv6 address', '2001:db8::1'],
    ['an IPv4-mapped IPv6 address', '::ffff:203.0.113.7'],
  ];
  for (const [claim, ...values] of rows) {
    const lines = values.map((value) => `X-Forwarded-For: ${value}`);
    test(claim, async (t) => {
      const sidecar = await startRawSidecar(t, { env: { HOST: '::' } });
      assert.deepEqual(await forwardedFor(t, sidecar, '127.0.0.1', ...lines), values);
    });
  }
});
