/** The ports of `run`: the public one is the sidecar's, and an app that is elsewhere is reported. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import { listen } from '../../src/http/listener.ts';
import { freePort } from '../support/free-port.ts';
import { lineWithMessage, linesOf, run, start } from './program.ts';

/** Responds on LISTEN, `ADDRESS:PORT`, or on PORT. */
const APP = `
  const [, host = '127.0.0.1', port = process.env.PORT] = /(.*):(.*)/.exec(process.env.LISTEN ?? '') ?? [];
  const app = require('node:http').createServer((request, response) => response.end('via ' + request.headers.via));
  setTimeout(() => app.listen(port, host), Number(process.env.LATE_MS ?? 0));
`;

interface Ports {
  readonly port: number;
  readonly appPort: number;
  readonly env: Readonly<Record<string, string>>;
}

async function freePorts(): Promise<Ports> {
  const [port, appPort] = [await freePort(), await freePort()];
  const env = { PORT: String(port), UPSTREAM_URL: `http://127.0.0.1:${appPort}` };
  return { port, appPort, env };
}

const COMMAND = ['run', '--', process.execPath, '-e', APP];

test('a request that comes before the app listens is served by it', async (t) => {
  const { port, env } = await freePorts();
  const child = start(t, { args: COMMAND, env: { ...env, LATE_MS: '1000' } });
  await lineWithMessage(linesOf(child), 'app started');
  const response = await fetch(`http://127.0.0.1:${port}`);
  assert.match(await response.text(), /^via 1\.1 /);
  child.kill('SIGTERM');
  await once(child, 'exit');
});

test('an app that wants the public port does not get it, and the log says where it has to listen', async (t) => {
  const { port, appPort, env } = await freePorts();
  const child = start(t, {
    args: COMMAND,
    env: { ...env, LISTEN: `127.0.0.1:${port}` },
  });
  child.stderr?.resume();
  const { advice, code } = await lineWithMessage(
    linesOf(child),
    'the app exited before it accepted a connection',
  );
  assert.equal(code, 1);
  assert.equal(
    advice,
    `see its output; if it says that port ${port} is in use: the sidecar listens there, let the app listen on PORT, which is ${appPort} for it`,
  );
  assert.deepEqual(await once(child, 'exit'), [1, null]);
});

test('a command that ends with 0 before it listens, as a release command does, is no error', async (t) => {
  const { env } = await freePorts();
  const child = start(t, { args: ['run', '--', 'true'], env });
  child.stderr?.resume();
  const line = await lineWithMessage(
    linesOf(child),
    'the app exited before it accepted a connection',
  );
  assert.deepEqual([line.level, line.code, line.advice], [30, 0, undefined]);
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

/** Of the address on which the app listens, what UPSTREAM_URL has to name. */
const ELSEWHERE: readonly (readonly [string, string])[] = [
  ['127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', '127.0.0.1'],
  ['::', '[::1]'],
  ['::1', '[::1]'],
];

for (const [address, reached] of ELSEWHERE)
  test(`an app on another port of ${address} is reported once, with the setting`, async (t) => {
    const { appPort, env } = await freePorts();
    const other = await freePort();
    const child = start(t, {
      args: COMMAND,
      env: { ...env, LISTEN: `${address}:${other}` },
    });
    const lines = linesOf(child);
    const { listensAt, expectedAt, advice } = await lineWithMessage(
      lines,
      'the app listens elsewhere',
    );
    const origin = `http://${reached}:${other}`;
    assert.deepEqual([listensAt, expectedAt], [origin, `http://127.0.0.1:${appPort}`]);
    assert.equal(
      advice,
      `let the app listen on PORT, which is ${appPort} for it, or set UPSTREAM_URL=${origin}`,
    );
    assert.equal(await (await fetch(origin)).text(), 'via undefined', 'the app itself');
    child.kill('SIGTERM');
    for await (const { msg } of lines) assert.notEqual(msg, 'the app listens elsewhere');
  });

test('an app behind a shell on the right port of another address is reported', async (t) => {
  const { appPort, env } = await freePorts();
  const child = start(t, {
    args: ['run', '--', 'sh', '-c', '"$NODE" -e "$APP" & wait'],
    env: { ...env, NODE: process.execPath, APP, LISTEN: `127.0.0.2:${appPort}` },
  });
  const { listensAt } = await lineWithMessage(linesOf(child), 'the app listens elsewhere');
  assert.equal(listensAt, `http://127.0.0.2:${appPort}`);
  child.kill('SIGTERM');
  await once(child, 'exit');
});

async function takePort(t: TestContext): Promise<string> {
  const taker = createServer((socket) => socket.destroy());
  const port = await listen(taker, { host: '127.0.0.1', port: 0 });
  t.after(() => taker.close());
  return String(port);
}

test('a process that has the place of the app already is reported', async (t) => {
  const env = { UPSTREAM_URL: `http://127.0.0.1:${await takePort(t)}` };
  const child = start(t, { args: COMMAND, env });
  child.stderr?.resume();
  const { upstream } = await lineWithMessage(
    linesOf(child),
    'another process listens at UPSTREAM_URL before the app has started',
  );
  assert.equal(upstream, env.UPSTREAM_URL);
  await once(child, 'exit');
});

test('the app is not started if the public port is taken', async (t) => {
  const { env } = await freePorts();
  const PORT = await takePort(t);
  const { code, output, errors } = await run(t, { args: COMMAND, env: { ...env, PORT } });
  assert.equal(code, 1);
  assert.equal(
    errors,
    `fly-affinity: cannot listen on 127.0.0.1:${PORT}: another process listens on it\n`,
  );
  assert.doesNotMatch(output, /app started/);
});
