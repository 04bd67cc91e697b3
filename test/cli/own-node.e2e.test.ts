/** What the sidecar's own Node.js takes from its surroundings. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { freePort } from '../support/free-port.ts';
import { lineWithMessage, linesOf, run, start } from './program.ts';

/** A module that reports each Node.js that loads it. */
function preloaded(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'fly-affinity-preload-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'preloaded.cjs');
  writeFileSync(
    path,
    `console.log(JSON.stringify({ msg: 'preloaded', pid: process.pid, argv: process.argv.slice(2) }));
    globalThis.isPreloaded = true;`,
  );
  return path;
}

test('NODE_OPTIONS is for the app of run alone', async (t) => {
  const NODE_OPTIONS = `--require ${preloaded(t)}`;
  const script = `console.log(JSON.stringify({ msg: 'app', isPreloaded: globalThis.isPreloaded,
      options: process.env.NODE_OPTIONS, names: Object.keys(process.env) }));
    require('node:net').createServer().listen(process.env.PORT, '127.0.0.1');`;
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', script],
    env: { NODE_OPTIONS, UPSTREAM_URL: `http://127.0.0.1:${await freePort()}` },
    // In the sidecar's process, once it serves: whether the module is loaded there.
    before: `process.on('SIGUSR2', () =>
      console.log(JSON.stringify({ msg: 'sidecar', isPreloaded: globalThis.isPreloaded ?? false })));`,
  });
  const lines = linesOf(child);
  const app = await lineWithMessage(lines, 'app');
  assert.deepEqual([app.isPreloaded, app.options], [true, NODE_OPTIONS]);
  assert.ok(!(app.names as string[]).includes('FLY_AFFINITY_APP_NODE_OPTIONS'));
  await lineWithMessage(lines, 'serving');
  child.kill('SIGUSR2');
  assert.equal((await lineWithMessage(lines, 'sidecar')).isPreloaded, false);
  child.kill('SIGTERM');
  await once(child, 'exit');
});

test('a command keeps its arguments, standard input and process without NODE_OPTIONS', async (t) => {
  const { code, output, errors } = await run(t, {
    args: ['help', 'version'],
    env: { NODE_OPTIONS: '--no-deprecation' },
  });
  assert.deepEqual([code, errors], [0, '']);
  assert.match(output, /^Usage: fly-affinity version/);
});

test('SIGUSR1 opens no inspector, and SIGUSR2 ends no sidecar', async (t) => {
  const child = start(t, { args: ['serve'], env: { UPSTREAM_URL: 'http://127.0.0.1:1' } });
  assert.ok(child.stderr);
  const errors = text(child.stderr);
  await lineWithMessage(linesOf(child), 'serving');
  for (let count = 0; count < 3; count += 1) child.kill('SIGUSR1');
  child.kill('SIGUSR2');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  assert.equal(await errors, '');
});
