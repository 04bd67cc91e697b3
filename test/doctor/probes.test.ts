/** The probes of real disks, files and listeners, and that they leave nothing behind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { probeDatabase } from '../../src/doctor/database.ts';
import { probeFile, probeVolume } from '../../src/doctor/store.ts';
import { sendProbe } from '../../src/doctor/probe.ts';
import { probeApp } from '../../src/doctor/app.ts';
import { APPLICATION_ID, SQLITE_SCHEMA_VERSION } from '../../src/store/sqlite/schema.ts';
import { createPlace } from '../store/place.ts';
import { createTestClock } from '../support/clock.ts';
import { freePort } from '../support/free-port.ts';
import { serveApp } from '../support/sidecar.ts';

const random = (): number => 0.5;

test('the volume probe writes to the directory, and leaves no file there', async (t) => {
  const place = await createPlace(t);
  const facts = await probeVolume(place.path(), random);
  assert.ok(facts.kind === 'found');
  assert.equal(facts.directory, place.directory);
  assert.equal(facts.writeError, undefined);
  assert.ok(facts.freeBytes > 0);
  assert.deepEqual(await readdir(place.directory), []);
});

test('the volume probe does not overwrite a file with its name', async (t) => {
  const place = await createPlace(t);
  const name = `.fly-affinity-doctor-${random().toString(36).slice(2)}`;
  await writeFile(join(place.directory, name), 'theirs');
  const facts = await probeVolume(place.path(), random);
  assert.equal(facts.kind === 'found' && facts.writeError, 'EEXIST');
  assert.deepEqual(await readdir(place.directory), [name]);
});

test('the volume probe reports an unwritable directory, even to root', async () => {
  const facts = await probeVolume('/proc/self/store.sqlite', random);
  assert.ok(facts.kind === 'found');
  assert.match(facts.writeError ?? '', /^E/);
  assert.equal(facts.isOnRootDisk, false);
});

test('the volume probe creates no missing directory, and rejects a file in its place', async (t) => {
  const place = await createPlace(t);
  const missing = await probeVolume(join(place.path('none'), 'a.sqlite'), random);
  assert.equal(missing.kind, 'missing');
  await writeFile(place.path('file'), '');
  const file = await probeVolume(join(place.path('file'), 'a.sqlite'), random);
  assert.deepEqual([file.kind, file.kind === 'unusable' && file.reason], ['unusable', 'ENOTDIR']);
  assert.deepEqual(await readdir(place.directory), ['file']);
});

test('the file probe reads the header of a store, and creates no file next to it', async (t) => {
  const place = await createPlace(t);
  assert.deepEqual(await probeFile(place.path()), { kind: 'absent' });
  const store = await place.open();
  await store.close();
  const before = await readdir(place.directory);
  assert.deepEqual(await probeFile(place.path()), {
    kind: 'database',
    applicationId: APPLICATION_ID,
    version: SQLITE_SCHEMA_VERSION,
  });
  assert.deepEqual(await readdir(place.directory), before);
});

test('the file probe detects files that are not SQLite, and treats an empty file as new', async (t) => {
  const place = await createPlace(t);
  await writeFile(place.path('text'), 'no database'.repeat(20));
  await writeFile(place.path('short'), 'SQLite format 3\0');
  await writeFile(place.path('empty'), '');
  assert.equal((await probeFile(place.path('text'))).kind, 'not-sqlite');
  assert.equal((await probeFile(place.path('short'))).kind, 'not-sqlite');
  assert.equal((await probeFile(place.path('empty'))).kind, 'database');
  const directory = await probeFile(place.directory);
  assert.equal(directory.kind === 'unreadable' && directory.reason, 'EISDIR');
});

test('the app probe reports the listener of an app on loopback', async (t) => {
  const port = await serveApp(t, () => undefined);
  const url = new URL(`http://127.0.0.1:${port}`);
  const facts = await probeApp(url, systemClock);
  assert.deepEqual(facts, {
    origin: url.origin,
    connectError: undefined,
    listeners: ['127.0.0.1'],
  });
});

test('the app probe reports why it could not connect', async () => {
  const port = await freePort();
  const facts = await probeApp(new URL(`http://localhost:${port}`), systemClock);
  assert.equal(facts.connectError, 'ECONNREFUSED');
  assert.deepEqual(facts.listeners, []);
});

/** Accepts connections, and sends nothing. */
async function startUnresponsiveServer(
  t: TestContext,
): Promise<{ port: number; accepted: Promise<Socket> }> {
  const server = createServer((socket) => void socket.resume().on('error', () => undefined));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection').then(([socket]) => socket as Socket);
  t.after(async () => {
    server.close();
    (await accepted).destroy();
  });
  const address = server.address();
  assert.ok(address && typeof address === 'object');
  return { port: address.port, accepted };
}

test('sendProbe times out if no response arrives', async (t) => {
  const { port, accepted } = await startUnresponsiveServer(t);
  const clock = createTestClock();
  const probing = sendProbe({ host: '127.0.0.1', port, path: '/' }, clock);
  const closed = once(await accepted, 'close');
  await clock.advance(3_000);
  assert.deepEqual(await probing, { kind: 'failed', code: 'timed out' });
  await closed;
  assert.equal(clock.pendingCount(), 0);
});

test('sendProbe times out if the response never ends', async (t) => {
  const begun = Promise.withResolvers<undefined>();
  const port = await serveApp(t, (_, response) => {
    response.write('a', () => begun.resolve(undefined));
  });
  const clock = createTestClock();
  const probing = sendProbe({ host: '127.0.0.1', port, path: '/' }, clock);
  await begun.promise;
  await clock.advance(3_000);
  assert.deepEqual(await probing, { kind: 'failed', code: 'timed out' });
});

test('sendProbe truncates a long response', async (t) => {
  const port = await serveApp(t, (_, response) => void response.end('a'.repeat(10_000_000)));
  const response = await sendProbe({ host: '127.0.0.1', port, path: '/' }, systemClock);
  assert.ok(response.kind === 'received');
  assert.ok(response.body.length < 1_000_000);
});

for (const kind of ['redis', 'postgres'] as const) {
  test(`the ${kind} probe times out, and reports no password`, async (t) => {
    const { port, accepted } = await startUnresponsiveServer(t);
    const clock = createTestClock();
    const href = `${kind}://user:s3cret@127.0.0.1:${port}/0`;
    const probing = probeDatabase({ kind, href }, clock);
    await accepted;
    await clock.advance(8_000);
    const { facts, clocks } = await probing;
    assert.ok(facts.kind === 'unusable');
    assert.ok(!facts.reason.includes('s3cret'), facts.reason);
    assert.deepEqual(clocks, []);
  });
}
