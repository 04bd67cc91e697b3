/**
 * The program as it is shipped: bundled, so that its files have other paths than in the sources.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, before, describe, test, type TestContext } from 'node:test';
import { createWorkspace } from '../bench/compiled.ts';
import { createScope } from '../bench/scope.ts';
import { lineWithMessage, linesOf } from './program.ts';

const FREE_PORTS = { HOST: '127.0.0.1', PORT: '0', PEER_PORT: '0', ADMIN_PORT: '0' };
const LOADS_UNDICI = 'internal/deps/undici/undici';

describe('the built program', () => {
  const scope = createScope();
  let script = '';
  let directory = '';

  before(async () => {
    const workspace = await createWorkspace(scope);
    script = workspace.sidecarScript;
    directory = workspace.directory;
  });
  after(() => scope.end());

  function startBuilt(t: TestContext, args: readonly string[], preload = ''): ChildProcess {
    const preloaded = `data:text/javascript,${encodeURIComponent(preload)}`;
    const child = spawn(process.execPath, ['--import', preloaded, script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...{ PATH: process.env.PATH, ...FREE_PORTS, FLEET: 'off' },
        UPSTREAM_URL: 'http://127.0.0.1:9',
        SESSION_STORE_PATH: join(directory, 'sessions.sqlite'),
      },
    });
    t.after(() => child.kill('SIGKILL'));
    return child;
  }

  test('serves with a store in a file, and stops in order', async (t) => {
    const child = startBuilt(t, ['serve']);
    const { store, version } = await lineWithMessage(linesOf(child), 'serving');
    const { kind, state } = store as { kind: string; state: string };
    assert.deepEqual([kind, state], ['sqlite', 'healthy']);
    assert.match(String(version), /^\d+\.\d+\.\d+/);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });

  test("serves without Node's own undici", async (t) => {
    const preload = `process.on('exit', () => console.log(JSON.stringify({
        msg: 'loaded', undici: process.moduleLoadList.some((name) => name.includes('${LOADS_UNDICI}')),
      })));`;
    const child = startBuilt(t, ['serve'], preload);
    const lines = linesOf(child);
    await lineWithMessage(lines, 'serving');
    child.kill('SIGTERM');
    assert.deepEqual(await lineWithMessage(lines, 'loaded'), { msg: 'loaded', undici: false });
  });

  test('help finds the pages of the documentation', async (t) => {
    const child = startBuilt(t, ['help', 'stores']);
    assert.ok(child.stdout);
    assert.match(await text(child.stdout), /^Stores\n=+\n/);
  });

  test('finds what dashboard and alerts print', async (t) => {
    const dashboard = startBuilt(t, ['dashboard']);
    const alerts = startBuilt(t, ['alerts']);
    assert.ok(dashboard.stdout && alerts.stdout);
    // Node drops what nobody reads when a child exits.
    const [json, yaml] = await Promise.all([text(dashboard.stdout), text(alerts.stdout)]);
    const { title } = JSON.parse(json) as { readonly title: string };
    assert.equal(title, 'fly-affinity');
    assert.match(yaml, /^groups:$/m);
  });

  test('simulates: the demo app and the guardian are found', async (t) => {
    const child = startBuilt(t, ['simulate', '--machines', '1', '--port', '0']);
    assert.ok(child.stdout);
    let address: string | undefined;
    for await (const line of createInterface({ input: child.stdout })) {
      address = /^Try: curl (\S+)/.exec(line)?.[1];
      if (address !== undefined) break;
    }
    assert.ok(address !== undefined);
    assert.equal((await fetch(address, { headers: { connection: 'close' } })).status, 200);
    child.kill('SIGINT');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });
});
