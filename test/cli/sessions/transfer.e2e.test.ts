/** `sessions export` and `import`: from store to store, completely or not at all. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { lstat, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { exportSessions } from '../../../src/cli/sessions/transfer.ts';
import type { SessionBackend } from '../../../src/cli/sessions/backend.ts';
import { systemClock } from '../../../src/clock.ts';
import { HEAD } from '../../../src/sessions/document.ts';
import { createTestClock } from '../../support/clock.ts';
import { serve, startTestSidecar } from '../../support/sidecar.ts';
import { createPlace, type Place } from '../../store/place.ts';
import { start } from '../program.ts';
import {
  assertSameSessions,
  bindingOf,
  bindingsOf,
  documentOf,
  runSessions,
  sessionsIn,
} from './support.ts';
import type { Ran, RunOptions } from '../in-process.ts';

const TOKEN = 'a-token-of-an-operator';

type Run = (args: readonly string[], given?: RunOptions) => Promise<Ran>;

async function openSidecar(t: TestContext): Promise<Run> {
  const sidecar = await startTestSidecar(t, 1, { ADMIN_TOKEN: TOKEN });
  const env = { ADMIN_TOKEN: TOKEN, ADMIN_PORT: String(sidecar.ports.admin) };
  return (args, given) => runSessions(args, { env, ...given });
}

function onFile(place: Place, name: string): Run {
  const env = { SESSION_STORE_PATH: place.path(name) };
  return (args, given) => runSessions(args, { env, ...given });
}

test('sessions move from a sidecar into a file, and from there into another, unchanged', async (t) => {
  const place = await createPlace(t);
  const [sidecar, file] = [await openSidecar(t), onFile(place, 'a.sqlite')];
  const bindings = bindingsOf(2_500);
  const filled = await sidecar(['import'], { input: documentOf(bindings) });
  const counts =
    '2500 imported, 0 already there, 0 expired, 0 owned by another Machine, 0 bad lines\n';
  assert.deepEqual([filled.code, filled.output], [0, counts]);
  const path = join(place.directory, 'sessions.jsonl');
  assert.equal((await sidecar(['export', path])).code, 0);
  assert.equal((await file(['import', path])).output, counts);
  const { output } = await file(['export']);
  assertSameSessions(sessionsIn(output), bindings);
  const again = await sidecar(['import', '-'], { input: output });
  assert.match(again.output, /^0 imported, 2500 already there/);
});

test('a file that a running sidecar has open is exported and filled', async (t) => {
  const place = await createPlace(t);
  const live = await place.open();
  const run = onFile(place, 'store.sqlite');
  const { key, machine } = bindingOf('live');
  const bound = await live.claim({ key, machine, origin: 'learned', ttlMs: 3_600_000 });
  assert.deepEqual(sessionsIn((await run(['export'])).output), [bound]);
  assert.equal((await run(['import'], { input: documentOf([bindingOf('new')]) })).code, 0);
  const found = live.lookup(bindingOf('new').key);
  assert.ok(typeof found !== 'string' && found.generation === 2);
});

test('an import evicts nothing, however few sessions the settings allow', async (t) => {
  const place = await createPlace(t);
  const env = { SESSION_STORE_PATH: place.path(), SESSION_STORE_MAX_SESSIONS: '10' };
  const input = documentOf(bindingsOf(100));
  assert.equal((await runSessions(['import'], { env, input })).code, 0);
  assert.equal(sessionsIn((await runSessions(['export'], { env })).output).length, 100);
});

test('a dry run changes nothing', async (t) => {
  const run = await openSidecar(t);
  const ran = await run(['import', '--dry-run'], { input: documentOf([bindingOf('one')]) });
  assert.deepEqual([ran.code, ran.output.slice(0, 19)], [0, 'dry run: 1 imported']);
  assert.equal((await run(['get', 'one'])).code, 1);
});

test('bad lines are reported, the first hundred of them, and the others are imported', async (t) => {
  const run = await openSidecar(t);
  const lines = documentOf([bindingOf('one')]).split('\n');
  const bad = Array.from({ length: 120 }, () => 'my-secret-id');
  const input = [lines[0], ...bad, lines[1], '{"end":"fly-affinity-sessions","sessions":121}'].join(
    '\n',
  );
  const { code, output, errors } = await run(['import'], { input });
  assert.equal(code, 1);
  assert.match(output, /^1 imported.* 120 bad lines\n$/);
  assert.match(
    errors,
    /\nline 2 is not a JSON object\n(line .*\n){98}line 101 .*\nand 20 more bad lines\n$/,
  );
  assert.ok(!(output + errors).includes('secret'));
});

for (const [name, input, message] of [
  [
    'an export of a newer version',
    documentOf([bindingOf('one')]).replace('"version":1', '"version":2'),
    /line 1 has version 2, but this fly-affinity reads version 1: use a newer one; the lines before/,
  ],
  [
    'a file that is not an export',
    'key,owner\n',
    /line 1 must be the first line of an export: \{"format"/,
  ],
  [
    'a truncated export',
    documentOf([bindingOf('one')])
      .split('\n')
      .slice(0, 2)
      .join('\n'),
    /line 2 the export is truncated.*; the lines before it are done/,
  ],
] as const) {
  test(`${name} ends an import with a sentence, and code 1`, async (t) => {
    const run = await openSidecar(t);
    const { code, errors } = await run(['import'], { input });
    assert.equal(code, 1);
    assert.match(errors, message);
  });
}

test('what was read before the export was truncated is imported', async (t) => {
  const run = await openSidecar(t);
  const input = documentOf([bindingOf('one'), bindingOf('two')])
    .split('\n')
    .slice(0, 2)
    .join('\n');
  assert.equal((await run(['import'], { input })).code, 1);
  assert.equal((await run(['get', 'one'])).code, 0);
});

test('an import whose input fails reports how far it came', async (t) => {
  const run = await openSidecar(t);
  async function* failing(): AsyncGenerator<Buffer> {
    yield Buffer.from(`${HEAD}\n`);
    await nextTurn();
    throw new Error('the disk is gone');
  }
  const { code, errors } = await run(['import'], { input: Readable.from(failing()) });
  assert.equal(code, 1);
  assert.match(errors, /stopped at line 1: the disk is gone; import again/);
});

test('a missing file is reported before a store is opened', async (t) => {
  const place = await createPlace(t);
  const { code, errors } = await onFile(place, 'a.sqlite')(['import', place.path('none.jsonl')]);
  assert.equal(code, 1);
  assert.match(errors, /cannot read "\S+none\.jsonl": ENOENT/);
  assert.deepEqual(await readdir(place.directory), []);
});

test('an export replaces a file, is readable by its owner only, and leaves no other file', async (t) => {
  const place = await createPlace(t);
  const folder = join(place.directory, 'exports');
  await mkdir(folder);
  const [path, link] = [join(folder, 'sessions.jsonl'), join(folder, 'link.jsonl')];
  await writeFile(path, 'earlier');
  await symlink(path, link);
  const run = await openSidecar(t);
  await run(['import'], { input: documentOf([bindingOf('one')]) });
  for (const name of [path, link]) {
    const { code, output, errors } = await run(['export', name]);
    assert.deepEqual([code, output], [0, '']);
    assert.match(errors, /: 1 session exported\n$/);
  }
  assert.equal(sessionsIn(await readFile(path, 'utf8')).length, 1);
  assert.ok((await lstat(link)).isSymbolicLink());
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual((await readdir(folder)).sort(), ['link.jsonl', 'sessions.jsonl']);
});

test('an export overwrites nothing that is not a regular file', async (t) => {
  const place = await createPlace(t);
  const run = await openSidecar(t);
  for (const path of [place.directory, '/dev/null', join(place.directory, 'none', 'x.jsonl')]) {
    const { code, errors } = await run(['export', path]);
    assert.equal(code, 1);
    assert.match(errors, /cannot write "\S+": (it exists and is not a file|ENOENT)/);
  }
  assert.deepEqual(await readdir(place.directory), []);
});

/** A sidecar that sends the beginning of an export, and then does what the test states. */
async function openStuckSidecar(t: TestContext, then: (response: ServerResponse) => void) {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/x-ndjson');
    if (request.url?.endsWith('limit=0')) {
      response.end(documentOf([]));
      return;
    }
    response.write(documentOf(bindingsOf(2_000)).split('\n').slice(0, -2).join('\n'));
    then(response);
  });
  return { ADMIN_TOKEN: TOKEN, ADMIN_PORT: String(await serve(t, server)) };
}

test('an export that breaks off leaves the earlier file unchanged', async (t) => {
  const place = await createPlace(t);
  const path = place.path('sessions.jsonl');
  await writeFile(path, 'earlier');
  for (const then of [
    (response: ServerResponse) => void response.socket?.destroy(),
    (response: ServerResponse) => void response.end(),
    (response: ServerResponse) => void response.end('\nnonsense\n'),
  ]) {
    const env = await openStuckSidecar(t, then);
    const { code, errors } = await runSessions(['export', path], { env });
    assert.equal(code, 69);
    assert.match(
      errors,
      /the sidecar at \S+ does not respond|cannot read the response of the sidecar/,
    );
    assert.equal(await readFile(path, 'utf8'), 'earlier');
    assert.deepEqual(await readdir(place.directory), ['sessions.jsonl']);
  }
});

test('an export from a sidecar that becomes unresponsive ends after a minute', async (t) => {
  const clock = createTestClock();
  const env = await openStuckSidecar(t, () => undefined);
  const place = await createPlace(t);
  const running = runSessions(['export', place.path('sessions.jsonl')], { env, clock });
  await untilThere(place.directory, /\.tmp$/);
  while (clock.pendingCount() === 0) await nextTurn();
  // Data in flight arrives, and then it waits.
  while ((await Promise.race([running, clock.advance(30_000)])) === undefined) await nextTurn();
  const { code, errors } = await running;
  assert.equal(code, 69);
  assert.match(errors, /the sidecar at \S+ does not respond \(the response stalled\)/);
  assert.deepEqual(await readdir(place.directory), []);
});

/** Polls until there are such files. */
async function untilThere(directory: string, name: RegExp): Promise<void> {
  while (!(await readdir(directory)).some((file) => name.test(file))) await pause(5);
}

for (const [signal, left] of [
  ['SIGINT', 0],
  ['SIGTERM', 0],
  ['SIGHUP', 0],
  ['SIGKILL', 1],
] as const) {
  test(`${signal} in the middle of an export leaves nothing under its name`, async (t) => {
    const place = await createPlace(t);
    const env = await openStuckSidecar(t, () => undefined);
    const path = place.path('sessions.jsonl');
    const child = start(t, { args: ['sessions', 'export', path], env });
    await untilThere(place.directory, /^\.sessions\.jsonl\..*\.tmp$/);
    child.kill(signal);
    assert.deepEqual(await once(child, 'exit'), [null, signal]);
    const files = await readdir(place.directory);
    assert.equal(files.length, left);
    assert.ok(!files.includes('sessions.jsonl'));
  });
}

test('an import that is killed and repeated has the same result as one that was not', async (t) => {
  const place = await createPlace(t);
  const bindings = bindingsOf(3_000);
  const text = documentOf(bindings);
  const env = { SESSION_STORE_URL: '', SESSION_STORE_PATH: place.path() };
  const child = start(t, { args: ['sessions', 'import'], env, stdin: 'pipe' });
  assert.ok(child.stdin);
  child.stdin.write(text.slice(0, text.length / 2));
  await untilThere(place.directory, /^store\.sqlite$/);
  const watching = await place.open();
  while ((await watching.getMetrics()).total < 500) await pause(5);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const run = onFile(place, 'store.sqlite');
  const { code, output } = await run(['import'], { input: text });
  assert.equal(code, 0);
  const [, imported, there] = /^(\d+) imported, (\d+) already there/.exec(output) ?? [];
  assert.equal(Number(imported) + Number(there), 3_000);
  assert.ok(Number(there) >= 500);
  assertSameSessions(sessionsIn((await run(['export'])).output), bindings);
});

test('a reader that closes early ends the command silently', async (t) => {
  const env = await openStuckSidecar(t, () => undefined);
  const child = start(t, { args: ['sessions', 'list'], env });
  assert.ok(child.stdout && child.stderr);
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await once(child.stdout, 'data');
  child.stdout.destroy();
  assert.deepEqual(await once(child, 'exit'), [141, null]);
  assert.match(errors, /^fly-affinity sessions: using the sidecar at \S+\n$/);
});

test('an export reads from the store no more than its reader consumes', async () => {
  let given = 0;
  const backend: SessionBackend = {
    name: 'an endless store',
    entries: async function* () {
      for (;;) {
        given += 1;
        if (given % 100 === 0) await nextTurn();
        yield bindingOf('one');
      }
    },
    find: () => Promise.resolve(undefined),
    remove: () => Promise.resolve(false),
    merge: () => Promise.reject(new Error('not called')),
    mergeBatchSize: 1,
    close: () => Promise.resolve(),
  };
  let taken = 0;
  let goOn = (): void => undefined;
  const stdout = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      taken += chunk.length;
      goOn = done;
    },
  });
  const stderr = new Writable({ write: (_chunk, _encoding, done) => done() });
  const streams = { stdin: Readable.from([]), stdout, stderr };
  const parts = {
    ...streams,
    backend,
    clock: systemClock,
    events: process,
    endBy: () => undefined,
  };
  const exporting = exportSessions(undefined, parts);
  for (let round = 1; round <= 5; round += 1) {
    const before = taken;
    while (taken === before) await nextTurn();
    for (let turn = 0; turn < 100; turn += 1) await nextTurn();
    assert.ok(given * 100 < taken + 2 * 32_768, `${given} sessions for ${taken} bytes`);
    goOn();
  }
  stdout.on('error', () => undefined).destroy(new Error('the reader has disconnected'));
  await assert.rejects(exporting);
});
