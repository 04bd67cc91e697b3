/** `sessions list`, `get` and `delete`, on a file and through a sidecar. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test, type TestContext } from 'node:test';
import type { Binding } from '../../../src/session.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createMemoryLog } from '../../support/log.ts';
import { serve, startTestSidecar } from '../../support/sidecar.ts';
import { createPlace } from '../../store/place.ts';
import { assertSameSessions, bindingOf, documentOf, runSessions, sessionsIn } from './support.ts';
import type { Ran, RunOptions } from '../in-process.ts';

const TOKEN = 'a-token-of-an-operator';
const B = machineId('b2');

interface Opened {
  readonly run: (args: readonly string[], given?: RunOptions) => Promise<Ran>;
  /** Of the sidecar, as text. */
  readonly log: () => string;
}

/** A SQLite file that another store has open too, as a sidecar on the same Machine would. */
async function openFile(t: TestContext): Promise<Opened> {
  const place = await createPlace(t);
  await place.open();
  const env = { SESSION_STORE_PATH: place.path() };
  return { run: (args, given) => runSessions(args, { env, ...given }), log: () => '' };
}

async function openSidecar(t: TestContext): Promise<Opened> {
  const kept = createMemoryLog();
  const sidecar = await startTestSidecar(t, 1, { ADMIN_TOKEN: TOKEN }, { logger: kept.logger });
  const env = { ADMIN_TOKEN: TOKEN, ADMIN_PORT: String(sidecar.ports.admin) };
  return {
    run: (args, given) => runSessions(args, { env, ...given }),
    log: () => JSON.stringify(kept.lines),
  };
}

async function fill({ run }: Opened, ...bindings: readonly Binding[]): Promise<void> {
  const { code, errors } = await run(['import'], { input: documentOf(bindings) });
  assert.equal(code, 0, errors);
}

for (const [where, open] of [
  ['on a file', openFile],
  ['through a sidecar', openSidecar],
] as const) {
  test(`list ${where} prints a table, or a line of JSON per session`, async (t) => {
    const opened = await open(t);
    const [one, two] = [bindingOf('one'), bindingOf('two', { machine: B, origin: 'adopted' })];
    await fill(opened, one, two);
    const { code, output } = await opened.run(['list']);
    assert.equal(code, 0);
    const [head = '', ...rows] = output.trimEnd().split('\n');
    assert.deepEqual(head.split(/ {2,}/), [
      'KEY',
      'OWNER',
      'ORIGIN',
      'GENERATION',
      'AGE',
      'EXPIRES IN',
    ]);
    assert.deepEqual(
      rows.map((row) => row.split(/ +/).slice(0, 4)).sort(),
      [
        [one.key, 'a1', 'learned', '2'],
        [two.key, 'b2', 'adopted', '2'],
      ].sort(),
    );
    assert.match(rows[0] ?? '', / 1h(1m)? +8h59m$/);
    const json = await opened.run(['list', '--json', '--owner', 'b2']);
    assertSameSessions(sessionsIn(json.output), [two]);
  });

  test(`list ${where} stops at the limit`, async (t) => {
    const opened = await open(t);
    await fill(opened, ...['1', '2', '3'].map((id) => bindingOf(id)));
    const { output } = await opened.run(['list', '--json', '--limit', '2']);
    assert.equal(output.trimEnd().split('\n').length, 2);
  });

  test(`get ${where} finds a session by its key, by its id, and by its id with a hint`, async (t) => {
    const opened = await open(t);
    const one = bindingOf('one');
    await fill(opened, one, bindingOf('two'));
    for (const args of [['--key', one.key], ['one'], ['one~a1'], ['--', 'one~gone1'], ['-']]) {
      const { code, output } = await opened.run(['get', '--json', ...args], {
        input: 'one~a1\r\n',
      });
      assert.equal(code, 0, args.join(' '));
      assertSameSessions(sessionsIn(output), [one]);
    }
    const { code, output, errors } = await opened.run(['get', 'three']);
    assert.deepEqual([code, output], [1, '']);
    assert.match(errors, /no such session/);
  });

  test(`get ${where} shows both sessions that an id can denote`, async (t) => {
    const opened = await open(t);
    await fill(opened, bindingOf('one'), bindingOf('one~a1'));
    const { output } = await opened.run(['get', '--json', 'one~a1']);
    assert.deepEqual(
      output
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { key: string }).key),
      [keyOf('one~a1'), keyOf('one')],
    );
  });

  test(`delete ${where} removes one session, and with a condition only its owner's`, async (t) => {
    const opened = await open(t);
    await fill(opened, bindingOf('one'), bindingOf('two'));
    const others = await opened.run(['delete', 'one', '--if-owner', 'b2']);
    assert.equal(others.code, 1);
    assert.match(others.errors, /no such session, or another Machine owns it/);
    const { code, output } = await opened.run(['delete', 'one~a1', '--if-owner', 'a1']);
    assert.deepEqual([code, output], [0, `deleted ${keyOf('one')}\n`]);
    assert.equal((await opened.run(['delete', 'one'])).code, 1);
    assert.equal((await opened.run(['get', 'two'])).code, 0);
  });

  test(`delete ${where} does not choose between two sessions`, async (t) => {
    const opened = await open(t);
    await fill(opened, bindingOf('one'), bindingOf('one~a1'));
    const { code, errors } = await opened.run(['delete', 'one~a1']);
    assert.equal(code, 1);
    assert.match(errors, /two sessions match: delete one of them with --key/);
    assert.ok(errors.includes(keyOf('one')) && errors.includes(keyOf('one~a1')));
    assert.equal((await opened.run(['delete', '--key', keyOf('one~a1')])).code, 0);
    assert.equal((await opened.run(['get', 'one'])).code, 0);
  });

  test(`no id is printed or logged ${where}, in whatever form it is given`, async (t) => {
    const opened = await open(t);
    const secret = '7f3c-my-secret';
    await fill(opened, bindingOf(secret));
    let printed = '';
    for (const args of [
      ['get', secret],
      ['get', `${secret}~a1`],
      ['get', '-'],
      ['get', `--${secret}`],
      ['get', '--key', secret],
      ['get', '--key', keyOf('x'), secret],
      ['get', `${secret} with a space`],
      ['get', secret, secret],
      ['get', '--if-owner', secret],
      ['delete', '--if-owner', secret, 'x'],
      ['delete', secret, '--if-owner', 'zz'],
      ['delete', secret],
      ['delete', secret],
      ['list', secret],
      ['list', '--owner', secret],
      [secret],
    ]) {
      const { output, errors } = await opened.run(args, { input: secret });
      printed += output + errors;
    }
    assert.ok(printed.includes(keyOf(secret)));
    assert.ok(!(printed + opened.log()).includes('secret'), printed);
  });
}

/** A listener on the admin port of a sidecar that is another program. */
async function listenAs(t: TestContext, status: number): Promise<string> {
  const server = createServer((_request, response) => response.writeHead(status).end('hello'));
  return String(await serve(t, server));
}

test('without ADMIN_TOKEN, or without a listener on the admin port, the store itself is read', async (t) => {
  const [{ run }, place] = [await openFile(t), await createPlace(t)];
  assert.match((await run(['list'])).errors, /: using the SQLite file "\S+\/store\.sqlite"\n$/);
  const { code, errors } = await runSessions(['list'], {
    env: { ADMIN_TOKEN: TOKEN, ADMIN_PORT: '1', SESSION_STORE_PATH: place.path('none') },
  });
  assert.equal(code, 69);
  assert.match(errors, /there is no session store "\S+\/none"; name another/);
});

test('another program on the admin port is reported, and the store itself is read', async (t) => {
  const place = await createPlace(t);
  await place.open();
  const ADMIN_PORT = await listenAs(t, 200);
  const env = { ADMIN_TOKEN: TOKEN, ADMIN_PORT, SESSION_STORE_PATH: place.path() };
  const { code, errors } = await runSessions(['list'], { env });
  assert.equal(code, 0);
  assert.match(
    errors,
    /:\d+ shows no sessions: it is not a sidecar, or has no ADMIN_TOKEN\n.*using the SQLite file/,
  );
});

test('a sidecar with another token ends the command, unless the store is named', async (t) => {
  const sidecar = await startTestSidecar(t, 1, { ADMIN_TOKEN: TOKEN });
  const place = await createPlace(t);
  await place.open();
  const env = {
    ADMIN_TOKEN: 'another-token-than-that',
    ADMIN_PORT: String(sidecar.ports.admin),
    SESSION_STORE_PATH: place.path(),
  };
  const { code, errors } = await runSessions(['list'], { env });
  assert.equal(code, 69);
  assert.match(errors, /has another ADMIN_TOKEN; --direct reads the store itself/);
  assert.equal((await runSessions(['list', '--direct'], { env })).code, 0);
  assert.equal((await runSessions(['list', '--store', `sqlite:${place.path()}`], { env })).code, 0);
});

test('--admin queries that sidecar only', async (t) => {
  const sidecar = await startTestSidecar(t, 1, { ADMIN_TOKEN: TOKEN });
  const at = (port: number | string): string[] => ['--admin', `http://127.0.0.1:${port}`];
  const env = { ADMIN_TOKEN: TOKEN };
  const found = await runSessions(['list', ...at(sidecar.ports.admin)], { env });
  assert.equal(found.code, 0);
  assert.match(found.errors, /using the sidecar at http:\/\/127\.0\.0\.1:\d+\n$/);
  for (const [args, settings, code, message] of [
    [at(1), env, 69, /cannot be reached: nothing listens there/],
    [at(await listenAs(t, 404)), env, 69, /shows no sessions: it is not a sidecar/],
    [at(sidecar.ports.public), env, 69, /shows no sessions: it is not a sidecar/],
    [at(sidecar.ports.admin), { ADMIN_TOKEN: `${TOKEN}!` }, 69, /has another ADMIN_TOKEN/],
    [at(sidecar.ports.admin), {}, 78, /ADMIN_TOKEN must be set for --admin/],
  ] as const) {
    const ran = await runSessions(['list', ...args], { env: settings });
    assert.equal(ran.code, code, ran.errors);
    assert.match(ran.errors, message);
  }
});

test('a sidecar that accepts connections and does not respond does not count as absent', async (t) => {
  const server = createServer((request) => request.socket.destroy());
  const ADMIN_PORT = String(await serve(t, server));
  const { code, errors } = await runSessions(['list'], { env: { ADMIN_TOKEN: TOKEN, ADMIN_PORT } });
  assert.equal(code, 69);
  assert.match(errors, /the sidecar at \S+ does not respond \(ECONNRESET\)/);
});

test('a sidecar that does not respond is awaited for a minute at most', async (t) => {
  const received = Promise.withResolvers<undefined>();
  const server = createServer(() => received.resolve(undefined));
  const env = { ADMIN_TOKEN: TOKEN, ADMIN_PORT: String(await serve(t, server)) };
  const clock = createTestClock();
  const running = runSessions(['list'], { env, clock });
  await received.promise;
  await clock.advance(60_000);
  const { code, errors } = await running;
  assert.equal(code, 69);
  assert.match(errors, /the sidecar at \S+ does not respond \(no response\)/);
});

test('sessions in the memory of a sidecar are shown through it only', async () => {
  const { code, errors } = await runSessions(['list'], { env: { SESSION_STORE_URL: 'memory:' } });
  assert.equal(code, 69);
  assert.match(errors, /in the memory of the sidecar.*set ADMIN_TOKEN for both/);
  const env = { SESSION_STORE_ENABLED: 'false' };
  assert.equal((await runSessions(['list'], { env })).code, 78);
});

test('an inspection creates no file', async (t) => {
  const place = await createPlace(t);
  const env = { SESSION_STORE_PATH: place.path() };
  for (const args of [
    ['list'],
    ['get', 'x'],
    ['delete', 'x'],
    ['export'],
    ['import', '--dry-run'],
  ]) {
    const { code, errors } = await runSessions(args, { env });
    assert.equal(code, 69, args.join(' '));
    assert.match(errors, /there is no session store/);
  }
  assert.equal(existsSync(place.path()), false);
});

test('a damaged file is reported, and stays unchanged', async (t) => {
  const place = await createPlace(t);
  const env = { SESSION_STORE_PATH: place.path() };
  const input = documentOf([bindingOf('one')]);
  assert.equal((await runSessions(['import'], { env, input })).code, 0);
  const file = await open(place.path(), 'r+');
  await file.write(Buffer.alloc(8_192, 7), 0, 8_192, 100);
  await file.close();
  const before = await readFile(place.path());
  for (const args of [['list'], ['export'], ['import']]) {
    const { code, output, errors } = await runSessions(args, { env, input });
    assert.deepEqual([code, output], [69, ''], args.join());
    assert.match(errors, /store\.sqlite": .*; move it away or set SESSION_STORE_PATH/);
  }
  assert.deepEqual(await readFile(place.path()), before);
  assert.deepEqual(
    (await readdir(place.directory)).filter((name) => name.includes('damaged')),
    [],
  );
});

test('of a database only its address is printed', async () => {
  const env = {
    SESSION_STORE_URL: 'redis://someone:s3cret@127.0.0.1:1/2?token=s3cret',
    FLY_APP_NAME: 'shop',
  };
  for (const args of [
    [],
    ['--store', 'postgres://someone:s3cret@127.0.0.1:1/db?password=s3cret'],
  ]) {
    const { code, output, errors } = await runSessions(['list', ...args], { env });
    assert.equal(code, 69);
    assert.match(errors, /127\.0\.0\.1:1\//);
    assert.doesNotMatch(output + errors, /s3cret/);
  }
});
