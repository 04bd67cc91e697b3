/** The test of the tests: files that leave something open fail, and report what and where. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

const PRELOAD = pathToFileURL(path.join(import.meta.dirname, 'no-leaks.ts')).href;

const HEAD = `
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
`;
/** The line of the fixture with the test that opens something. */
const OPENER = 11;

interface Run {
  readonly code: number | null;
  readonly output: string;
}

/** Runs a test file with this one test as `npm test` does. */
async function runFile(t: TestContext, body: string, more = ''): Promise<Run> {
  const directory = mkdtempSync(path.join(tmpdir(), 'fly-affinity-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = path.join(directory, 'fixture.test.mjs');
  writeFileSync(file, `${HEAD}\ntest('opens', async () => { ${body} });\n${more}`);
  const env = { ...process.env };
  // If it is set, the runner considers itself a file of the run that it is in.
  delete env.NODE_TEST_CONTEXT;
  const child = spawn(process.execPath, ['--import', PRELOAD, '--test', file], { env });
  t.after(() => child.kill('SIGKILL'));
  const [output, [code]] = await Promise.all([
    text(child.stdout),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, output };
}

const LISTEN = `const server = net.createServer().listen(0, '127.0.0.1'); await once(server, 'listening');`;
const CONNECT = `const { port } = server.address(); const socket = net.connect(port, '127.0.0.1');`;

const LEAKS: readonly (readonly [what: string, body: string, told: RegExp])[] = [
  ['a server', LISTEN, /server\n/],
  ["an unref'ed server", `${LISTEN} server.unref();`, /server \(unref'ed\)\n/],
  ['a socket', `${LISTEN} ${CONNECT} await once(socket, 'connect'); server.close();`, /socket\n/],
  ['a UDP socket', `dgram.createSocket('udp4').bind(0, '127.0.0.1');`, /UDP socket\n/],
  ['an interval', `setInterval(() => undefined, 1_000);`, /timer of 1000 ms\n/],
  [
    "an unref'ed interval",
    `setInterval(() => undefined, 1_000).unref();`,
    /timer of 1000 ms \(unref'ed\)\n/,
  ],
  ['a timer', `setTimeout(() => undefined, 60_000);`, /timer of 60000 ms\n/],
  [
    'a thread',
    `new Worker('setInterval(() => undefined, 1_000)', { eval: true });`,
    /port of a thread\n/,
  ],
  [
    'a child process that shares its output',
    `spawn('sleep', ['600'], { stdio: 'inherit' });`,
    /child process \d+\n/,
  ],
  ['a message port', `new MessageChannel().port1.onmessage = () => undefined;`, /message port\n/],
  ['a file watcher', `fs.watch(import.meta.dirname);`, /file watcher\n/],
  ['a listener of a signal', `process.on('SIGHUP', () => undefined);`, /listener of a signal/],
];

describe('a file fails that leaves open', { concurrency: true }, () => {
  for (const [what, body, report] of LEAKS) {
    test(`${what}, reported with the line that created it`, async (t) => {
      const { code, output } = await runFile(t, body);
      assert.equal(code, 1, output);
      assert.match(output, /fixture\.test\.mjs leaves open what its tests have to close/);
      assert.match(output, report);
      assert.match(output, new RegExp(`fixture\\.test\\.mjs:${OPENER}:`));
      assert.match(output, /✔ opens/);
    });
  }

  test('a timer of timers/promises', async (t) => {
    const body = `void import('node:timers/promises').then((timers) => timers.setTimeout(60_000));`;
    const { code, output } = await runFile(t, `${body} await new Promise(setImmediate);`);
    assert.equal(code, 1, output);
    assert.match(output, /timer of 60000 ms/);
  });

  test('a file, reported by its name', async (t) => {
    const { code, output } = await runFile(t, `fs.openSync(import.meta.filename);`);
    assert.equal(code, 1, output);
    assert.match(output, /file \S+fixture\.test\.mjs \(\d+\)/);
  });

  test('a FileHandle, even if it is collected before the check', async (t) => {
    const { code, output } = await runFile(t, `await fs.promises.open(import.meta.filename);`);
    assert.equal(code, 1, output);
    assert.match(output, /file \S+fixture\.test\.mjs|Closing file descriptor/);
  });
});

describe('a file passes', { concurrency: true }, () => {
  const passes = async (t: TestContext, body: string, more?: string): Promise<void> => {
    const { code, output } = await runFile(t, body, more);
    assert.equal(code, 0, output);
  };

  test('that has closed everything', (t) =>
    passes(
      t,
      `${LISTEN} ${CONNECT} await once(socket, 'connect'); socket.destroy(); server.close();
       clearInterval(setInterval(() => undefined, 1_000));
       await new Worker('', { eval: true }).terminate();
       await once(spawn('true'), 'exit');`,
    ));

  test('whose things are still closing', (t) =>
    passes(t, `${LISTEN} setTimeout(() => server.close(), 200).unref();`));

  test('that closes in a hook of the whole file', (t) =>
    passes(
      t,
      `globalThis.timer = setInterval(() => undefined, 1_000);`,
      `after(() => clearInterval(timer));`,
    ));

  test('whose last thing is closed by a slow hook', (t) =>
    passes(
      t,
      `const { port1 } = new MessageChannel(); port1.ref(); globalThis.port = port1;`,
      `after(() => new Promise((resolve) => setTimeout(resolve, 100)));
       after(() => port.close());`,
    ));

  test('with timers of Node.js, which no program can end', (t) =>
    passes(t, `globalThis.signal = AbortSignal.timeout(60_000);`));
});
