/** `run` with a real app, stopped and restarted on the same store file. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { freePort } from '../support/free-port.ts';
import { lineWithMessage, linesOf, start } from './program.ts';

const APP = fileURLToPath(new URL('restarted-app.ts', import.meta.url));

interface Deployment {
  readonly url: URL;
  readonly appUrl: URL;

  /** Starts the sidecar and the app; resolves to a function that stops both. */
  readonly start: () => Promise<() => Promise<void>>;
}

async function deploy(t: TestContext, keepsSessions: boolean): Promise<Deployment> {
  const folder = mkdtempSync(join(tmpdir(), 'fly-affinity-run-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [port, appPort] = [await freePort(), await freePort()];
  const appUrl = new URL(`http://127.0.0.1:${appPort}`);
  const sessionsFile = join(folder, 'sessions');
  const env = {
    PORT: String(port),
    FLY_MACHINE_ID: 'm1',
    UPSTREAM_URL: appUrl.origin,
    SESSION_STORE_URL: '',
    SESSION_STORE_PATH: join(folder, 'sessions.sqlite'),
    ...(keepsSessions && { SESSIONS_FILE: sessionsFile }),
  };
  const args = ['run', '--', process.execPath, '--import', 'tsx', APP];
  return {
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    appUrl,

    start: async () => {
      const child = start(t, { args, env });
      const lines = linesOf(child);
      await lineWithMessage(lines, 'serving');
      return async () => {
        child.kill('SIGTERM');
        if (child.exitCode === null) await once(child, 'exit');
      };
    },
  };
}

async function connect(t: TestContext, url: URL): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(new StreamableHTTPClientTransport(url));
  t.after(() => client.close());
  return client;
}

async function call(url: URL, session: string, body = ''): Promise<[number, string]> {
  const headers = { 'mcp-session-id': session };
  const response = await fetch(url, { method: 'POST', headers, body });
  return [response.status, await response.text()];
}

test('a client of a session that ended with the app gets a 404, and starts a new one', async (t) => {
  const { url, appUrl, start: startAll } = await deploy(t, false);
  const endFirst = await startAll();
  const client = await connect(t, url);
  await client.callTool({ name: 'count' });
  const session = (client.transport as StreamableHTTPClientTransport).sessionId ?? '';
  await client.close();
  await endFirst();

  const endSecond = await startAll();
  const unhinted = session.replace(/~m1$/, '');
  assert.equal((await call(appUrl, unhinted))[0], 400, "the app's own error");
  for (const id of [session, session, unhinted]) {
    const [status, body] = await call(url, id);
    const error = { code: -32001, message: 'Session not found' };
    assert.deepEqual([status, JSON.parse(body)], [404, { jsonrpc: '2.0', error, id: null }]);
  }
  assert.equal((await call(url, 'never-seen'))[0], 400, 'an id that is not known to be older');
  const resumed = new Client({ name: 'test', version: '1' });
  const transport = new StreamableHTTPClientTransport(url, { sessionId: session });
  await resumed.connect(transport);
  t.after(() => resumed.close());
  await assert.rejects(resumed.callTool({ name: 'count' }), { code: 404 });
  const anew = await connect(t, url);
  assert.ok((await anew.callTool({ name: 'count' })).content);
  await Promise.all([resumed.close(), anew.close()]);
  await endSecond();
});

test('an app that keeps its sessions over a restart gets every request', async (t) => {
  const { url, start: startAll } = await deploy(t, true);
  const endFirst = await startAll();
  const session = (await fetch(url, { method: 'POST' })).headers.get('mcp-session-id') ?? '';
  assert.match(session, /~m1$/);
  await endFirst();
  const endSecond = await startAll();
  assert.deepEqual(await call(url, session), [200, 'called']);
  assert.deepEqual(await call(url, session, 'malformed'), [400, 'malformed call']);
  assert.deepEqual(await call(url, session), [200, 'called']);
  await endSecond();
});
