import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { StartSidecar } from '../../src/app/sidecar-process.ts';
import { runWithApp } from '../../src/cli/run.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { listen } from '../../src/http/listen.ts';
import { freePort } from '../support/free-port.ts';

/** Answers on PORT; SIGTERM ends it with code 7, SIGINT with 8. */
const APP = `
  const server = require('node:net').createServer((socket) => socket.end());
  server.listen(Number(process.env.PORT), '127.0.0.1');
  process.on('SIGTERM', () => process.exit(7));
  process.on('SIGINT', () => process.exit(8));
`;
/** Tells the test by connecting that it runs, and never opens its port. */
const MUTE_APP = `
  process.on('SIGTERM', () => process.exit(7));
  require('node:net').connect(Number(process.env.REPORT_PORT), '127.0.0.1').on('error', () => {});
`;

/** Answers on PORT, and nothing but SIGKILL ends it. */
const STUBBORN_APP = `
  require('node:net').createServer((socket) => socket.end()).listen(process.env.PORT, '127.0.0.1');
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => {});
`;

interface Story {
  readonly ended: Promise<number>;
  readonly signal: (name: NodeJS.Signals) => void;
  /** What became of the sidecar, in order. */
  readonly told: string[];
  /** Resolves when that has been told. */
  readonly until: (event: string) => Promise<void>;
  readonly drained: PromiseWithResolvers<undefined>;
  readonly errors: string[];
  readonly appPort: number;
}

interface Given {
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  readonly openPublicPort?: () => void;
}

async function runApp(
  t: TestContext,
  command: readonly string[],
  { env = {}, clock = systemClock, openPublicPort }: Given = {},
): Promise<Story> {
  const events = new EventEmitter();
  const appPort = await freePort();
  const told: string[] = [];
  const errors: string[] = [];
  const drained = Promise.withResolvers<undefined>();
  const progress = new EventEmitter();
  const tell = (event: string): void => {
    told.push(event);
    progress.emit(event);
  };
  const startSidecar: StartSidecar = async (_config, { untilAppAnswers }) => {
    tell('starting');
    await untilAppAnswers?.();
    openPublicPort?.();
    queueMicrotask(() => tell('serving'));
    return {
      ports: { public: 1, peer: 2, admin: 3 },
      readiness: () => ({ ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } }),
      drain: () => {
        tell('draining');
        return drained.promise;
      },
      stop: () => {
        tell('stopped');
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
        ...env,
      },
      clock,
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
    told,
    drained,
    errors,
    appPort,
    signal: (name) => void events.emit(name, name),
    until: async (event) => {
      if (!told.includes(event)) await once(progress, event);
    },
  };
}

const node = (script: string): readonly string[] => [process.execPath, '-e', script];

async function isAnswering(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.on('connect', () => resolve(true));
    socket.on('error', () => resolve(false));
  }).finally(() => socket.destroy()) as Promise<boolean>;
}

test('the sidecar serves when the app answers on the port of UPSTREAM_URL', async (t) => {
  const story = await runApp(t, node(APP));
  await story.until('serving');
  assert.ok(await isAnswering(story.appPort));
});

test('the first signal drains and then reaches the app', async (t) => {
  const story = await runApp(t, node(APP));
  await story.until('serving');
  story.signal('SIGTERM');
  await story.until('draining');
  assert.ok(await isAnswering(story.appPort));
  story.drained.resolve(undefined);
  assert.equal(await story.ended, 7);
  assert.deepEqual(story.told, ['starting', 'serving', 'draining', 'stopped']);
});

test('the second signal reaches the app at once', async (t) => {
  const story = await runApp(t, node(APP));
  await story.until('serving');
  story.signal('SIGTERM');
  await story.until('draining');
  story.signal('SIGINT');
  assert.equal(await story.ended, 8);
});

test('an app that ends by itself ends the sidecar with its code', async (t) => {
  const story = await runApp(t, node(`${APP} setTimeout(() => process.exit(3), 500);`));
  await story.until('serving');
  assert.equal(await story.ended, 3);
  assert.deepEqual(story.told, ['starting', 'serving', 'stopped']);
});

test('an app that ends while draining ends the sidecar with its code', async (t) => {
  const story = await runApp(
    t,
    node(`${APP} server.on('connection', () => {
    if (process.env.x) process.exit(4); process.env.x = 'answered once' });`),
  );
  await story.until('serving');
  story.signal('SIGTERM');
  await story.until('draining');
  await isAnswering(story.appPort);
  assert.equal(await story.ended, 4);
});

test('an app that a signal ends is 128 and its number', async (t) => {
  const story = await runApp(t, node(`process.kill(process.pid, 'SIGKILL')`));
  assert.equal(await story.ended, 137);
  assert.ok(!story.told.includes('serving'));
});

test('an app that ends before its port answers ends the sidecar with its code', async (t) => {
  const story = await runApp(t, node('process.exit(5)'));
  assert.equal(await story.ended, 5);
  assert.deepEqual(story.told, ['starting']);
});

test('a signal while the app is not up yet reaches it at once', async (t) => {
  const reports = createServer((socket) => socket.on('error', () => undefined));
  const port = await listen(reports, { host: '127.0.0.1', port: 0 });
  t.after(() => reports.close());
  const story = await runApp(t, node(MUTE_APP), { env: { REPORT_PORT: String(port) } });
  await once(reports, 'connection');
  story.signal('SIGTERM');
  assert.equal(await story.ended, 7);
  assert.ok(!story.told.includes('serving'));
});

test('a failed start kills an app that ignores SIGTERM for five seconds', async (t) => {
  const sleeps: number[] = [];
  const hurried: Clock = {
    ...systemClock,
    sleep: (ms, signal) => {
      sleeps.push(ms);
      return systemClock.sleep(Math.min(ms, 10), signal);
    },
  };
  const openPublicPort = (): never => {
    throw new Error('the public port is taken');
  };
  const story = await runApp(t, node(STUBBORN_APP), { clock: hurried, openPublicPort });
  assert.equal(await story.ended, 1);
  assert.deepEqual(story.errors, ['fly-affinity: the public port is taken\n']);
  assert.ok(sleeps.includes(5_000));
  assert.ok(!(await isAnswering(story.appPort)));
});

test('a program that is not there is a sentence and code 1', async (t) => {
  const story = await runApp(t, ['/no/such/program']);
  assert.equal(await story.ended, 1);
  assert.deepEqual(story.errors, [
    'fly-affinity: cannot start /no/such/program: there is no such program\n',
  ]);
});
