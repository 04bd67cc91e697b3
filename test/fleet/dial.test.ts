import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createDialer, type Dialer } from '../../src/fleet/dial.ts';
import { createTestClock } from '../support/clock.ts';
import { listen, until } from './support.ts';

interface Dialled {
  readonly error: (Error & { code?: string }) | null;
  readonly socket: Socket | null;
}

function dial(dialer: Dialer, port: number): Promise<Dialled> {
  return new Promise((resolve) => {
    const target = { hostname: 'bb.vm.app.internal', protocol: 'http:', port: String(port) };
    dialer.connect(target, (...[error, socket]) => resolve({ error, socket }));
  });
}

/** A listener that accepts nothing and whose queue is full: connecting to it takes for ever. */
async function startFullListener(t: TestContext): Promise<number> {
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
     const server = require('node:net').createServer();
     server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
     });`,
    { eval: true },
  );
  t.after(() => worker.terminate());
  const [port] = (await once(worker, 'message')) as [number];
  const queued = Array.from({ length: 4 }, () =>
    connect(port, '127.0.0.1').on('error', () => undefined),
  );
  t.after(() => queued.forEach((socket) => socket.destroy()));
  await until(() => queued.filter((socket) => !socket.connecting).length >= 2);
  return port;
}

describe('a dialer', () => {
  it('connects to the address known now, whatever the name', async (t) => {
    const { port } = await listen(t, (_, response) => response.end());
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    const { socket } = await dial(dialer, port);
    assert.ok(socket);
    assert.equal(clock.pendingCount(), 0);
    dialer.close();
    assert.equal(socket.destroyed, false);
    socket.destroy();
  });

  it('fails at once where no address is known, and asks nobody for one', async () => {
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => undefined, timeoutMs: 100, clock });
    assert.equal((await dial(dialer, 1)).error?.code, 'address-unknown');
  });

  it('passes on that a connection was refused', async (t) => {
    const { port, close } = await listen(t, (_, response) => response.end());
    await close();
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    assert.equal((await dial(dialer, port)).error?.code, 'ECONNREFUSED');
    assert.equal(clock.pendingCount(), 0);
  });

  it('gives up what takes too long', async (t) => {
    const port = await startFullListener(t);
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    const dialled = dial(dialer, port);
    await clock.advance(100);
    assert.equal((await dialled).error?.code, 'connect-timeout');
  });

  it('gives up what is still connecting when it is closed', async (t) => {
    const port = await startFullListener(t);
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    const dialled = dial(dialer, port);
    dialer.close();
    assert.equal((await dialled).error?.code, 'closed');
    assert.equal(clock.pendingCount(), 0);
  });
});
