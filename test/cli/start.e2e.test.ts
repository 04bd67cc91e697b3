/** Starts that hang, fail or are aborted, in real processes. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { listen } from '../../src/http/listener.ts';
import { freePort } from '../support/free-port.ts';
import { lineWithMessage, linesOf, start, type Line } from './program.ts';

/** Reported in a warning; by then signals are handled and the start has begun. */
const TYPO = { SESSION_STORE_PAHT: '/nowhere' };
const TYPO_WARNING = 'SESSION_STORE_PAHT is not a setting; did you mean SESSION_STORE_PATH?';

/** A store that another process keeps locked: its open hangs for ten seconds and more. */
function lockStore(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'fly-affinity-'));
  const path = join(directory, 'sessions.db');
  const database = new Database(path);
  database.exec('BEGIN EXCLUSIVE');
  t.after(() => {
    database.close();
    rmSync(directory, { recursive: true });
  });
  const env = { SESSION_STORE_URL: '', SESSION_STORE_PATH: path };
  return { env, unlock: () => database.close() };
}

const lockedStore = (t: TestContext): Readonly<Record<string, string>> => lockStore(t).env;

/** A resolver that receives every query and responds to none. */
async function unresponsiveResolver(t: TestContext) {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  t.after(() => socket.close());
  await once(socket, 'listening');
  return { address: `127.0.0.1:${socket.address().port}`, queried: once(socket, 'message') };
}

async function remaining(lines: AsyncGenerator<Line>): Promise<unknown[]> {
  const messages: unknown[] = [];
  for await (const { msg } of lines) messages.push(msg);
  return messages;
}

test('a signal during the first reading of the directory ends serve in order, with code 0', async (t) => {
  const { address, queried } = await unresponsiveResolver(t);
  const fleet = { FLEET: 'auto', FLEET_RESOLVER: address, PEER_DIAL_PORT: '8081' };
  const identity = { FLY_APP_NAME: 'shop', FLY_MACHINE_ID: 'm1' };
  const child = start(t, { args: ['serve'], env: { ...fleet, ...identity } });
  const messages = remaining(linesOf(child));
  await queried;
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  const logged = await messages;
  assert.ok(logged.includes('the start is aborted'));
  assert.ok(!logged.includes('serving'));
});

test('a second signal ends the process immediately, though the store hangs in its open', async (t) => {
  const child = start(t, { args: ['serve'], env: { ...lockedStore(t), ...TYPO } });
  const lines = linesOf(child);
  await lineWithMessage(lines, TYPO_WARNING);
  child.kill('SIGINT');
  await lineWithMessage(lines, 'the start is aborted');
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['ended immediately by a second signal']);
});

test('a store that hangs in its open outlasts a signal by seconds at most', async (t) => {
  const child = start(t, { args: ['serve'], env: { ...lockedStore(t), ...TYPO } });
  const lines = linesOf(child);
  await lineWithMessage(lines, TYPO_WARNING);
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['the start is aborted', 'the start hangs']);
});

test('a store that hangs in its open does not delay signals to the app of run', async (t) => {
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', `setInterval(() => undefined, 1000)`],
    env: lockedStore(t),
  });
  const lines = linesOf(child);
  await lineWithMessage(lines, 'app started');
  child.kill('SIGTERM');
  const messages = remaining(lines);
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM']);
  assert.deepEqual(await messages, ['the start hangs']);
});

test('a failed start is reported immediately, and the next signal kills an app that ignores SIGTERM', async (t) => {
  const blocker = createServer();
  const taken = String(await listen(blocker, { host: '127.0.0.1', port: 0 }));
  t.after(() => blocker.close());
  const script = `process.on('SIGTERM', () => console.log('{"msg":"ignored","pid":' + process.pid + '}'));
    require('node:net').createServer().listen(process.env.PORT, '127.0.0.1',
      () => console.log('{"msg":"listening"}'));`;
  // The start goes on, and fails, when the app is ready for the signal.
  const { env, unlock } = lockStore(t);
  const child = start(t, {
    args: ['run', '--', process.execPath, '-e', script],
    env: { ...env, UPSTREAM_URL: `http://127.0.0.1:${await freePort()}`, ADMIN_PORT: taken },
  });
  assert.ok(child.stderr);
  const lines = linesOf(child);
  await lineWithMessage(lines, 'listening');
  unlock();
  const [[message], { pid }] = await Promise.all([
    once(child.stderr, 'data') as Promise<[Buffer]>,
    lineWithMessage(lines, 'ignored'),
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
