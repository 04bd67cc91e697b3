/** Starts that hang, fail or are called off, in real processes. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { listen } from '../../src/http/listen.ts';
import { freePort } from '../support/free-port.ts';
import { lineThatSays, linesOf, start, type Line } from './program.ts';

/** Told about in a warning, by when signals are heard and the start has begun. */
const TYPO = { SESSION_STORE_PAHT: '/nowhere' };
const TYPO_WARNING = 'SESSION_STORE_PAHT is not a setting; did you mean SESSION_STORE_PATH?';

/** A store that another process keeps locked: its opening hangs for ten seconds and more. */
function lockedStore(t: TestContext): Readonly<Record<string, string>> {
  const directory = mkdtempSync(join(tmpdir(), 'fly-affinity-'));
  const path = join(directory, 'sessions.db');
  const database = new Database(path);
  database.exec('BEGIN EXCLUSIVE');
  t.after(() => {
    database.close();
    rmSync(directory, { recursive: true });
  });
  return { SESSION_STORE_URL: '', SESSION_STORE_PATH: path };
}

/** A resolver that hears every question and answers none. */
async function silentResolver(t: TestContext) {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  t.after(() => socket.close());
  await once(socket, 'listening');
  return { address: `127.0.0.1:${socket.address().port}`, asked: once(socket, 'message') };
}

async function remaining(lines: AsyncGenerator<Line>): Promise<unknown[]> {
  const messages: unknown[] = [];
  for await (const { msg } of lines) messages.push(msg);
  return messages;
}

test('a signal during the first reading of the directory ends serve in order, with code 0', async (t) => {
  const { address, asked } = await silentResolver(t);
  const fleet = { FLEET: 'auto', FLEET_RESOLVER: address, PEER_DIAL_PORT: '8081' };
  const identity = { FLY_APP_NAME: 'shop', FLY_MACHINE_ID: 'm1' };
  const child = start(t, { args: ['serve'], env: { ...fleet, ...identity } });
  const messages = remaining(linesOf(child));
  await asked;
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  const told = await messages;
  assert.ok(told.includes('the start is called off'));
  assert.ok(!told.includes('serving'));
});

test('a second signal ends at once, though the store hangs in its opening', async (t) => {
  const child = start(t, { args: ['serve'], env: { ...lockedStore(t), ...TYPO } });
  const lines = linesOf(child);
  await lineThatSays(lines, TYPO_WARNING);
  child.kill('SIGINT');
  await lineThatSays(lines, 'the start is called off');
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['ended at once by a second signal']);
});

test('a store that hangs in its opening does not outlast a signal by more than seconds', async (t) => {
  const child = start(t, { args: ['serve'], env: { ...lockedStore(t), ...TYPO } });
  const lines = linesOf(child);
  await lineThatSays(lines, TYPO_WARNING);
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['the start is called off', 'the start hangs']);
});

test('a store that hangs in its opening keeps no signal from the app of run', async (t) => {
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', `setInterval(() => undefined, 1000)`],
    env: lockedStore(t),
  });
  const lines = linesOf(child);
  await lineThatSays(lines, 'app started');
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['the start hangs']);
});

test('a failed start is told at once, and the next signal kills an app that ignores SIGTERM', async (t) => {
  const blocker = createServer();
  const taken = String(await listen(blocker, { host: '127.0.0.1', port: 0 }));
  t.after(() => blocker.close());
  const script = `process.on('SIGTERM', () => console.log('{"msg":"ignored","pid":' + process.pid + '}'));
    require('node:net').createServer().listen(process.env.PORT, '127.0.0.1');`;
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', script],
    env: { UPSTREAM_URL: `http://127.0.0.1:${await freePort()}`, PORT: taken },
  });
  assert.ok(child.stderr);
  const [[message], { pid }] = await Promise.all([
    once(child.stderr, 'data') as Promise<[Buffer]>,
    lineThatSays(linesOf(child), 'ignored'),
  ]);
  t.after(() => isRunning(pid) && process.kill(Number(pid), 'SIGKILL'));
  assert.equal(
    String(message),
    `fly-affinity: cannot listen on 127.0.0.1:${taken}: another process listens on it\n`,
  );
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [1, null]);
  assert.ok(!isRunning(pid));
});

function isRunning(pid: unknown): boolean {
  try {
    return process.kill(Number(pid), 0);
  } catch {
    return false;
  }
}
