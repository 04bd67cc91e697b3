/** `X-Forwarded-For`: the edge's stays, and where there is none the client's address is added. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { openRawClient } from '../../support/raw.ts';
import { get, OF_M1, startPair, startWire, valuesOf, type RecordingApp } from './support.ts';

/** What the app receives from a client that connects to that address of this computer. */
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

describe('X-Forwarded-For that is added', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, host: string, address: string, added: string])[] = [
    ['is an address of IPv4 on a listener of IPv4', '127.0.0.1', '127.0.0.1', '127.0.0.1'],
    ['is an address of IPv4 on a listener of both', '::', '127.0.0.1', '127.0.0.1'],
    ['is an address of IPv6 on a listener of both', '::', '::1', '::1'],
  ];
  for (const [claim, host, address, added] of rows) {
    test(claim, async (t) => {
      const wire = await startWire(t, { env: { HOST: host } });
      assert.deepEqual(await forwardedFor(t, wire, address), [added]);
    });
  }

  test('is the same for a request that is forwarded', async (t) => {
    const { forwarded } = await startPair(t, { env: { HOST: '::' } });
    assert.deepEqual(await forwardedFor(t, forwarded, '127.0.0.1', ...OF_M1), ['127.0.0.1']);
  });
});

describe('X-Forwarded-For of the edge stays as it is:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...values: string[]])[] = [
    ['a list', '203.0.113.7, 66.241.124.1'],
    ['two fields', '203.0.113.7', '66.241.124.1'],
    ['an address of IPv6', '2001:db8::1'],
    ['an address of IPv4 in one of IPv6', '::ffff:203.0.113.7'],
  ];
  for (const [claim, ...values] of rows) {
    const lines = values.map((value) => `X-Forwarded-For: ${value}`);
    test(claim, async (t) => {
      const wire = await startWire(t, { env: { HOST: '::' } });
      assert.deepEqual(await forwardedFor(t, wire, '127.0.0.1', ...lines), values);
    });
  }
});
