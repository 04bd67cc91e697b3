import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { listen } from '../../src/http/listener.ts';
import { lineWithMessage, linesOf, run, start, type Line } from './program.ts';

async function serveApp(t: TestContext): Promise<{ app: Server; url: string }> {
  const app = createServer((_, response) => response.end('from the app'));
  const port = await listen(app, { host: '127.0.0.1', port: 0 });
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  return { app, url: `http://127.0.0.1:${port}` };
}

test('--version prints the version, --help the overview', async (t) => {
  const [version, help] = await Promise.all([
    run(t, { args: ['--version'] }),
    run(t, { args: ['--help'] }),
  ]);
  assert.match(version.output, /^\d+\.\d+\.\d+\n$/);
  assert.equal(version.code, 0);
  assert.match(help.output, /^Usage: fly-affinity \[COMMAND\]$/m);
  assert.equal(help.code, 0);
});

test('an unknown command ends with one line and code 64', async (t) => {
  const { code, output, errors } = await run(t, { args: ['sevre'] });
  assert.equal(code, 64);
  assert.equal(output, '');
  assert.equal(errors, 'fly-affinity: unknown command "sevre". See fly-affinity --help.\n');
});

for (const [version, isOldEnough] of [
  ['18.20.4', false],
  ['20.19.0', false],
  ['22.18.0', false],
  ['22.19.0', true],
  ['24.0.0', true],
] as const) {
  test(`Node ${version} is ${isOldEnough ? 'supported' : 'rejected in one line, with code 1'}`, async (t) => {
    const before = `Object.defineProperty(process.versions, 'node', { value: '${version}' });
      Object.defineProperty(process, 'version', { value: 'v${version}' });`;
    const { code, errors } = await run(t, { args: ['--version'], before });
    assert.equal(code, isOldEnough ? 0 : 1);
    const sentence = `fly-affinity needs Node.js 22.19 or newer, but this is v${version}.\n`;
    assert.equal(errors, isOldEnough ? '' : sentence);
  });
}

test('every error in the settings is reported, with code 78, and no port is opened', async (t) => {
  const { code, output, errors } = await run(t, {
    args: ['serve'],
    env: {
      PORT: '99999',
      UPSTREAM_URL: 'ftp://app',
      SESSION_STORE_URL: 'mysql://user:s3cret@host',
    },
    before: `process.getBuiltinModule('node:net').Server.prototype.listen = () => {
      console.log('a port was opened'); };`,
  });
  assert.equal(code, 78);
  assert.equal(output, '');
  assert.match(errors, /^fly-affinity: 3 mistakes in the configuration\n {2}PORT must be .*\n/);
  assert.match(errors, /^ {2}UPSTREAM_URL must be .*, got "ftp:\/\/app"$/m);
  assert.ok(!errors.includes('s3cret'));
});

for (const args of [
  ['serve'],
  ['run', '--', process.execPath, '-e', 'setInterval(() => 0, 1e3)'],
]) {
  test(`${args[0]} warns once of an app that is not on this Machine`, async (t) => {
    const url = 'http://shop.flycast';
    const child = start(t, { args, env: { FLY_AFFINITY_UPSTREAM_URL: url, UPSTREAM_URL: url } });
    const lines = linesOf(child);
    const { value: warning } = (await lines.next()) as { value: Line };
    assert.deepEqual([warning.level, warning.upstream], [40, undefined]);
    assert.match(String(warning.msg), /^FLY_AFFINITY_UPSTREAM_URL is .*flycast, which is not this/);
    const next = (await lines.next()) as { value: Line };
    assert.doesNotMatch(String(next.value.msg), /UPSTREAM_URL/);
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
}

test('a port in use ends the program with a message that names it, with code 1', async (t) => {
  const { url } = await serveApp(t);
  const taken = new URL(url).port;
  const { code, errors } = await run(t, {
    args: ['serve'],
    env: { ADMIN_PORT: taken, LOG_LEVEL: 'silent' },
  });
  assert.equal(code, 1);
  assert.equal(
    errors,
    `fly-affinity: cannot listen on 127.0.0.1:${taken}: another process listens on it\n`,
  );
});

test('serve logs one line when it serves, and ends with code 0 after a signal', async (t) => {
  const { url } = await serveApp(t);
  const child = start(t, { args: ['serve'], env: { UPSTREAM_URL: url, FLY_MACHINE_ID: 'm1' } });
  const lines = linesOf(child);
  const serving = await lineWithMessage(lines, 'serving');
  const { version, machine, upstream, protocols, store, fleet } = serving;
  assert.match(String(version), /^\d/);
  assert.deepEqual([machine, upstream], ['m1', url]);
  assert.deepEqual(protocols, ['auto']);
  assert.equal((store as Line).kind, 'memory');
  assert.equal((fleet as Line).kind, 'off');
  const ports = serving.ports as Readonly<Record<string, number>>;
  const response = await fetch(`http://127.0.0.1:${ports.public}/`);
  assert.equal(await response.text(), 'from the app');
  assert.equal((await fetch(`http://127.0.0.1:${ports.admin}/readyz`)).status, 200);
  assert.match(
    await (await fetch(`http://127.0.0.1:${ports.admin}/metrics`)).text(),
    /^fly_affinity_requests_total\{decision="local",why="no-session"\} 1$/m,
  );
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0);
  assert.equal((await lineWithMessage(lines, 'request')).path, '/');
  await lineWithMessage(lines, 'stopped');
});

test('a second signal ends serve immediately', async (t) => {
  const app = createServer(() => undefined);
  const port = await listen(app, { host: '127.0.0.1', port: 0 });
  t.after(() => app.close());
  const url = `http://127.0.0.1:${port}`;
  const child = start(t, { args: ['serve'], env: { UPSTREAM_URL: url } });
  const lines = linesOf(child);
  const ports = (await lineWithMessage(lines, 'serving')).ports as Readonly<Record<string, number>>;
  const client = connect(ports.public ?? 0, '127.0.0.1');
  client.on('error', () => undefined);
  client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  await once(app, 'request');
  child.kill('SIGINT');
  await lineWithMessage(lines, 'draining');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
});

test('run starts the app, serves it, and ends with its exit code', async (t) => {
  const { app, url } = await serveApp(t);
  await new Promise((resolve) => app.close(resolve));
  const script = `require('node:http').createServer((_, response) => response.end('child'))
    .listen(process.env.PORT, '127.0.0.1'); process.on('SIGTERM', () => process.exit(9));`;
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', script],
    env: { UPSTREAM_URL: url },
  });
  const lines = linesOf(child);
  const ports = (await lineWithMessage(lines, 'serving')).ports as Readonly<Record<string, number>>;
  const response = await fetch(`http://127.0.0.1:${ports.public}/`);
  assert.equal(await response.text(), 'child');
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 9);
});
