/** The processes of the app that `run` starts: what reaches them, and that none is left. */
import assert from 'node:assert/strict';
import { once, type EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { freePort } from '../support/free-port.ts';
import { lineWithMessage, linesOf, start, type Line } from './program.ts';

/** Reports itself on standard output, and every SIGTERM. */
const APP = `
  const report = (msg) => console.log(JSON.stringify({ msg, pid: process.pid, env: process.env }));
  process.on('SIGTERM', () => { report('signalled'); if (process.env.STUBBORN !== '1') process.exit(7); });
  require('node:net').createServer().listen(process.env.PORT, '127.0.0.1', () => report('listening'));
`;

/** The app is a process that a shell starts: `$APP` in the script. */
interface Started {
  readonly child: ReturnType<typeof start>;
  readonly lines: AsyncGenerator<Line>;
  /** Of the real app. */
  readonly pid: number;
  readonly env: Readonly<Record<string, string>>;
}

async function runInShell(
  t: TestContext,
  script: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Started> {
  const child = start(t, {
    args: ['run', '--', 'sh', '-c', script],
    env: {
      UPSTREAM_URL: `http://127.0.0.1:${await freePort()}`,
      NODE: process.execPath,
      APP,
      ...env,
    },
  });
  const lines = linesOf(child);
  const { pid, env: seen } = await lineWithMessage(lines, 'listening');
  t.after(() => isRunning(Number(pid)) && process.kill(Number(pid), 'SIGKILL'));
  return { child, lines, pid: Number(pid), env: seen as Record<string, string> };
}

const IN_BACKGROUND = '"$NODE" -e "$APP" & wait';

/** A zombie has ended: its parent has not looked yet, which is not our matter. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const exitOf = (child: EventEmitter): Promise<unknown[]> => once(child, 'exit');

test('a signal reaches the app behind a shell, which exits by itself', async (t) => {
  const { child, lines, pid } = await runInShell(t, IN_BACKGROUND);
  await lineWithMessage(lines, 'serving');
  child.kill('SIGTERM');
  assert.equal((await lineWithMessage(lines, 'signalled')).pid, pid);
  assert.deepEqual(await exitOf(child), [143, null], 'the code of the shell');
  assert.ok(!isRunning(pid));
});

test('an app that ignores the signal is killed after STOP_TIMEOUT_MS', async (t) => {
  const env = { STUBBORN: '1', STOP_TIMEOUT_MS: '300' };
  const { child, lines, pid } = await runInShell(t, 'exec "$NODE" -e "$APP"', env);
  await lineWithMessage(lines, 'serving');
  child.kill('SIGTERM');
  await lineWithMessage(lines, 'signalled');
  const { processes } = await lineWithMessage(
    lines,
    'killed the app, which did not exit after a signal',
  );
  assert.deepEqual(processes, [pid]);
  assert.deepEqual(await exitOf(child), [137, null]);
  assert.ok(!isRunning(pid));
});

test('what a shell leaves behind in a group of its own is killed too', async (t) => {
  const env = { STUBBORN: '1', STOP_TIMEOUT_MS: '300' };
  const { child, lines, pid } = await runInShell(t, `set -m; ${IN_BACKGROUND}`, env);
  await lineWithMessage(lines, 'serving');
  child.kill('SIGTERM');
  await lineWithMessage(lines, 'signalled');
  assert.deepEqual(await exitOf(child), [143, null]);
  assert.ok(!isRunning(pid));
});

test('the rest of an app whose first process has crashed is signalled, and the code is kept', async (t) => {
  const { child, lines, pid } = await runInShell(t, '"$NODE" -e "$APP" & sleep 2; exit 3');
  assert.equal((await lineWithMessage(lines, 'signalled')).pid, pid);
  assert.deepEqual(await exitOf(child), [3, null]);
  assert.ok(!isRunning(pid));
});

test('a sidecar that ends by a defect leaves no process of the app behind', async (t) => {
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', APP],
    env: { UPSTREAM_URL: `http://127.0.0.1:${await freePort()}`, STUBBORN: '1' },
    before: `process.on('SIGUSR2', () => { throw new Error('a defect'); });`,
  });
  const lines = linesOf(child);
  const { pid } = await lineWithMessage(lines, 'listening');
  t.after(() => isRunning(Number(pid)) && process.kill(Number(pid), 'SIGKILL'));
  child.kill('SIGUSR2');
  await lineWithMessage(lines, 'ended by a defect');
  assert.deepEqual(await exitOf(child), [1, null]);
  assert.ok(!isRunning(Number(pid)));
});

test('the app has the environment of the sidecar, without its secrets and with PORT', async (t) => {
  const port = String(await freePort());
  const { child, env } = await runInShell(t, 'exec "$NODE" -e "$APP"', {
    UPSTREAM_URL: `http://127.0.0.1:${port}`,
    OF_THE_APP: 'kept',
    ADMIN_TOKEN: 'admin-token-of-the-sidecar',
    FLY_AFFINITY_ADMIN_TOKEN: 'another-token-of-the-sidecar',
    SESSION_STORE_URL: 'memory:',
    FLY_AFFINITY_SESSION_STORE_URL: 'memory:',
  });
  assert.equal(env.OF_THE_APP, 'kept');
  assert.equal(env.PORT, port);
  assert.deepEqual(
    Object.keys(env).filter((name) => /ADMIN_TOKEN|SESSION_STORE_URL/.test(name)),
    [],
  );
  child.kill('SIGTERM');
  await exitOf(child);
});
