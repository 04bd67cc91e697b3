/** Outside Fly.io: a sidecar that is restarted on the same store file is the same Machine. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { persistGeneratedMachineId } from '../../src/app/sidecar-process.ts';
import { systemClock } from '../../src/clock.ts';
import { parseConfig, type Config, type Environment } from '../../src/config/config.ts';
import { serveApp } from '../support/sidecar.ts';
import { lineWithMessage, linesOf, start, type Line } from '../cli/program.ts';

async function createFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fly-affinity-machine-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function configOf(env: Environment, digit: number): Config {
  const { config } = parseConfig(env, () => digit / 10);
  assert.ok(config);
  return config;
}

/** The id of a start that would generate `local` and nine times this digit. */
async function idOf(env: Environment, digit: number): Promise<string> {
  const { config, warning } = await persistGeneratedMachineId(configOf(env, digit), systemClock);
  assert.equal(warning, undefined);
  return config.identity.machine;
}

test('a generated id is stored next to the store file, readable by its user only, and read again', async (t) => {
  const path = join(await createFolder(t), 'not', 'there', 'yet.sqlite');
  const env = { SESSION_STORE_PATH: path };
  assert.equal(await idOf(env, 1), 'local111111111');
  assert.equal(await idOf(env, 2), 'local111111111');
  assert.equal((await stat(`${path}.machine`)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(join(path, '..')), ['yet.sqlite.machine']);
  assert.equal(await idOf({ SESSION_STORE_PATH: `${path}2` }, 3), 'local333333333');
});

for (const text of ['', 'local12', 'local1234567890', 'd890123456789', 'local111111111\nlocal2']) {
  test(`an invalid generated id is replaced: ${JSON.stringify(text)}`, async (t) => {
    const path = join(await createFolder(t), 's.sqlite');
    await writeFile(`${path}.machine`, text);
    assert.equal(await idOf({ SESSION_STORE_PATH: path }, 4), 'local444444444');
    assert.equal(await readFile(`${path}.machine`, 'utf8'), 'local444444444\n');
  });
}

describe('nothing is stored', () => {
  for (const env of [
    { FLY_MACHINE_ID: 'm1' },
    { SESSION_STORE_ENABLED: 'false' },
    { SESSION_STORE_URL: 'memory:' },
    { FLY_MACHINE_ID: 'm1', SESSION_STORE_URL: 'redis://db' },
  ]) {
    test(`with ${JSON.stringify(env)}`, async (t) => {
      const folder = await createFolder(t);
      const config = configOf({ SESSION_STORE_PATH: join(folder, 's.sqlite'), ...env }, 5);
      assert.equal((await persistGeneratedMachineId(config, systemClock)).config, config);
      assert.deepEqual(await readdir(folder), []);
    });
  }
});

test('when it cannot be stored, one warning reports it and what to do', async (t) => {
  const file = join(await createFolder(t), 'file');
  await writeFile(file, '');
  const config = configOf({ SESSION_STORE_PATH: join(file, 's.sqlite') }, 6);
  const kept = await persistGeneratedMachineId(config, systemClock);
  assert.equal(kept.config, config);
  assert.match(
    kept.warning ?? '',
    /^could not store the generated Machine id in .*; set FLY_MACHINE_ID$/,
  );
});

describe('earlier sessions are served by a restarted sidecar', () => {
  async function open(t: TestContext, env: Readonly<Record<string, string>>, app: number) {
    const settings = { UPSTREAM_URL: `http://127.0.0.1:${app}`, ADMIN_TOKEN: TOKEN, ...env };
    const child = start(t, { args: ['serve'], env: { SESSION_STORE_URL: '', ...settings } });
    const lines = linesOf(child);
    const serving = await lineWithMessage(lines, 'serving');
    const ports = serving.ports as Readonly<Record<string, number>>;
    return {
      machine: String(serving.machine),
      call: (session?: string) =>
        fetch(`http://127.0.0.1:${ports.public}/mcp`, {
          method: 'POST',
          redirect: 'manual',
          headers: session === undefined ? {} : { 'mcp-session-id': session },
        }),
      ownSessions: async (): Promise<unknown> => {
        const headers = { authorization: `Bearer ${TOKEN}` };
        const url = `http://127.0.0.1:${ports.admin}/drain`;
        return ((await (await fetch(url, { headers })).json()) as Line).ownSessions;
      },
      stop: async () => {
        child.kill('SIGTERM');
        if (child.exitCode === null) await once(child, 'exit');
      },
    };
  }

  const TOKEN = 'a-token-of-16-characters';
  const serveMinting = (t: TestContext): Promise<number> =>
    serveApp(t, (req, res) => {
      if (req.headers['mcp-session-id'] === undefined) res.setHeader('mcp-session-id', 'abc');
      res.end('from the app');
    });

  test('under the same generated id', async (t) => {
    const app = await serveMinting(t);
    const env = { SESSION_STORE_PATH: join(await createFolder(t), 's.sqlite') };
    const first = await open(t, env, app);
    const session = (await first.call()).headers.get('mcp-session-id') ?? '';
    assert.equal(session, `abc~${first.machine}`);
    await first.stop();
    const second = await open(t, env, app);
    assert.equal(second.machine, first.machine);
    assert.equal(await (await second.call(session)).text(), 'from the app');
    await second.stop();
  });

  test('under another id too, without a fleet, and count as its own from then on', async (t) => {
    const app = await serveMinting(t);
    const env = { SESSION_STORE_PATH: join(await createFolder(t), 's.sqlite'), FLEET: 'off' };
    const first = await open(t, { ...env, FLY_MACHINE_ID: 'yesterday' }, app);
    const session = (await first.call()).headers.get('mcp-session-id') ?? '';
    await first.stop();
    const second = await open(t, { ...env, FLY_MACHINE_ID: 'today' }, app);
    assert.equal(await second.ownSessions(), 0);
    for (const id of [session, 'abc']) {
      assert.equal(await (await second.call(id)).text(), 'from the app');
    }
    assert.equal(await second.ownSessions(), 1);
    const others = await second.call('unbound~other');
    assert.match(others.headers.get('fly-replay') ?? '', /^instance=other/);
    await second.stop();
  });
});
