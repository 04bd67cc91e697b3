import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { StartSidecar } from '../../src/app/sidecar-process.ts';
import { runWithApp } from '../../src/cli/run.ts';
import { systemClock } from '../../src/clock.ts';
import { listen } from '../../src/http/listener.ts';
import { freePort } from '../support/free-port.ts';

/** Responds on PORT; SIGTERM ends it with code 7, SIGINT with 8. */
const APP = `
  const server = require('node:net').createServer((socket) => socket.end());
  server.listen(Number(process.env.PORT), '127.0.0.1');
  process.on('SIGTERM', () => process.exit(7));
  process.on('SIGINT', () => process.exit(8));
`;
/** Connects to the test to report that it runs, and never opens its port. */
const MUTE_APP = `
  process.on('SIGTERM', () => process.exit(7));
  require('node:net').connect(Number(process.env.REPORT_PORT), '127.0.0.1').on('error', () => {});
`;

/** Responds on PORT, and only SIGKILL ends it. */
const APP_IGNORING_SIGNALS = `
  require('node:net').createServer((socket) => socket.end()).listen(process.env.PORT, '127.0.0.1');
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => {});
`;

interface Scenario {
  readonly ended: Promise<number>;
  readonly signal: (name: NodeJS.Signals) => void;
  /** The events of the sidecar, in order. */
  readonly reported: string[];
  /** Resolves when that event has been reported. */
  readonly until: (event: string) => Promise<void>;
  readonly drained: PromiseWithResolvers<undefined>;
  readonly errors: string[];
  readonly appPort: number;
}

interface RunAppOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly openPublicPort?: () => void;
}

async function runApp(
  t: TestContext,
  command: readonly string[],
  { env = {}, openPublicPort }: RunAppOptions = {},
): Promise<Scenario> {
  const events = new EventEmitter();
  const appPort = await freePort();
  const reported: string[] = [];
  const errors: string[] = [];
  const drained = Promise.withResolvers<undefined>();
  const progress = new EventEmitter();
  const report = (event: string): void => {
    reported.push(event);
    progress.emit(event);
  };
  const startSidecar: StartSidecar = async (_config, { untilAppListens }) => {
    report('starting');
    await untilAppListens?.();
    openPublicPort?.();
    queueMicrotask(() => report('serving'));
    return {
      ports: { public: 1, peer: 2, admin: 3 },
      readiness: () => ({ ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } }),
      drain: () => {
        report('draining');
        return drained.promise;
      },
      stop: () => {
        report('stopped');
        return Promise.resolve();
      },
    };
  };
  const ended = runWithApp(
    {
      env: {
        ...process.env,
        UPSTREAM_URL: `http://127.0.0.1:${appPort}`,
        LOG_LEVEL: 'silent',
        SESSION_STORE_URL: 'memory:',
        PORT: '0',
        ...env,
      },
      clock: systemClock,
      random: () => 0.5,
      events,
      printError: (text) => errors.push(text),
      exit: () => assert.fail('must not exit'),
      endBy: () => assert.fail('must not end by a signal'),
    },
    startSidecar,
    command,
  );
  t.after(async () => {
    events.emit('exit');
    await ended;
    assert.deepEqual(events.eventNames(), []);
  });
  return {
    ended,
    reported,
    drained,
    errors,
    appPort,
    signal: (name) => void events.emit(name, name),
    until: async (event) => {
      if (!reported.includes(event)) await once(progress, event);
    },
  };
}

const node = (script: string): readonly string[] => [process.execPath, '-e', script];

async function isResponding(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.on('connect', () => resolve(true));
    socket.on('error', () => resolve(false));
  }).finally(() => socket.destroy()) as Promise<boolean>;
}

test('the sidecar serves when the app responds on the port of UPSTREAM_URL', async (t) => {
  const scenario = await runApp(t, node(APP));
  await scenario.until('serving');
  assert.ok(await isResponding(scenario.appPort));
});

test('the first signal drains and then reaches the app', async (t) => {
  const scenario = await runApp(t, node(APP));
  await scenario.until('serving');
  scenario.signal('SIGTERM');
  await scenario.until('draining');
  assert.ok(await isResponding(scenario.appPort));
  scenario.drained.resolve(undefined);
  assert.equal(await scenario.ended, 7);
  assert.deepEqual(scenario.reported, ['starting', 'serving', 'draining', 'stopped']);
});

test('the second signal reaches the app immediately', async (t) => {
  const scenario = await runApp(t, node(APP));
  await scenario.until('serving');
  scenario.signal('SIGTERM');
  await scenario.until('draining');
  scenario.signal('SIGINT');
  assert.equal(await scenario.ended, 8);
});

test('an app that ends by itself ends the sidecar with its code', async (t) => {
  const scenario = await runApp(t, node(`${APP} setTimeout(() => process.exit(3), 500);`));
  await scenario.until('serving');
  assert.equal(await scenario.ended, 3);
  assert.deepEqual(scenario.reported, ['starting', 'serving', 'stopped']);
});

test('an app that ends while draining ends the sidecar with its code', async (t) => {
  const scenario = await runApp(
    t,
    node(`${APP} server.on('connection', () => {
    if (process.env.x) process.exit(4); process.env.x = 'answered once' });`),
  );
  await scenario.until('serving');
  scenario.signal('SIGTERM');
  await scenario.until('draining');
  await isResponding(scenario.appPort);
  assert.equal(await scenario.ended, 4);
});

test('an app ended by a signal exits with 128 plus its number', async (t) => {
  const scenario = await runApp(t, node(`process.kill(process.pid, 'SIGKILL')`));
  assert.equal(await scenario.ended, 137);
  assert.ok(!scenario.reported.includes('serving'));
});

test('an app that ends before its port responds ends the sidecar with its code', async (t) => {
  const scenario = await runApp(t, node('process.exit(5)'));
  assert.equal(await scenario.ended, 5);
  assert.deepEqual(scenario.reported, ['starting']);
});

test('a signal before the app has started reaches it immediately', async (t) => {
  const reports = createServer((socket) => socket.on('error', () => undefined));
  const port = await listen(reports, { host: '127.0.0.1', port: 0 });
  t.after(() => reports.close());
  const scenario = await runApp(t, node(MUTE_APP), { env: { REPORT_PORT: String(port) } });
  await once(reports, 'connection');
  scenario.signal('SIGTERM');
  assert.equal(await scenario.ended, 7);
  assert.ok(!scenario.reported.includes('serving'));
});

test('a failed start kills an app that ignores SIGTERM', async (t) => {
  const openPublicPort = (): never => {
    throw new Error('the public port is taken');
  };
  const env = { STOP_TIMEOUT_MS: '50' };
  const scenario = await runApp(t, node(APP_IGNORING_SIGNALS), { env, openPublicPort });
  assert.equal(await scenario.ended, 1);
  assert.deepEqual(scenario.errors, ['fly-affinity: the public port is taken\n']);
  assert.ok(!(await isResponding(scenario.appPort)));
});

// As in a shell.
const UNSTARTABLE: readonly (readonly [string, number, string])[] = [
  ['/no/such/program', 127, 'there is no such program'],
  ['no-such-program', 127, 'there is no such program'],
  ['/etc/passwd', 126, 'it is not an executable file'],
  ['/etc', 126, 'it is not an executable file'],
];

for (const [command, code, reason] of UNSTARTABLE)
  test(`${command} is reported in a sentence, with code ${code}`, async (t) => {
    const scenario = await runApp(t, [command]);
    assert.equal(await scenario.ended, code);
    assert.deepEqual(scenario.errors, [`fly-affinity: cannot start ${command}: ${reason}\n`]);
  });
