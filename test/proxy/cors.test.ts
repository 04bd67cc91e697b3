/** What a script in a browser can read of the sidecar's own error responses (Fetch standard, "CORS protocol"). */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { freePort } from '../support/free-port.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const ORIGIN = 'https://inspector.example';
const REJECTING = { UNKNOWN_SESSION: 'reject', SESSION_PROTOCOLS: 'mcp,socket.io,header:x-room' };

async function urlOf(t: TestContext, appPort: number): Promise<string> {
  const { ports } = await startTestSidecar(t, appPort, REJECTING);
  return `http://127.0.0.1:${ports.public}`;
}

function assertReadable({ headers }: Response, origin: string): void {
  assert.equal(headers.get('access-control-allow-origin'), origin);
  assert.equal(headers.get('access-control-allow-credentials'), 'true');
  assert.equal(headers.get('access-control-expose-headers'), 'retry-after');
  assert.equal(headers.get('vary'), 'origin');
}

// prettier-ignore
const ERRORS: readonly (readonly [claim: string, path: string, headers: Record<string, string>, status: number])[] = [
  ['an unknown session of MCP', '/mcp', { 'mcp-session-id': 'gone' }, 404],
  ['an unknown session of Engine.IO', '/socket.io/?EIO=4&transport=polling&sid=gone', {}, 400],
  ['an unknown session of any other protocol', '/', { 'x-room': 'gone' }, 404],
];

for (const [claim, path, sent, status] of ERRORS) {
  test(`a script can read the error for ${claim}`, async (t) => {
    const url = await urlOf(t, await serveApp(t, (_, res) => res.end()));
    const response = await fetch(url + path, { headers: { ...sent, origin: ORIGIN } });
    assert.equal(response.status, status);
    assertReadable(response, ORIGIN);
  });
}

test('a script can read that the app is down, and when to try again', async (t) => {
  const response = await fetch(await urlOf(t, await freePort()), { headers: { origin: 'null' } });
  assert.equal(response.status, 502);
  assert.equal(response.headers.get('retry-after'), '1');
  assertReadable(response, 'null');
});

test('a request without an origin gets no such fields', async (t) => {
  const response = await fetch(await urlOf(t, await freePort()));
  assert.equal(response.status, 502);
  assert.equal(response.headers.get('access-control-allow-origin'), null);
  assert.equal(response.headers.get('vary'), null);
});

test('a response of the app gets no such fields: who may read it is its own decision', async (t) => {
  const url = await urlOf(t, await serveApp(t, (_, res) => res.writeHead(404).end()));
  const response = await fetch(url, { headers: { origin: ORIGIN } });
  assert.equal(response.status, 404);
  assert.equal(response.headers.get('access-control-allow-origin'), null);
});
