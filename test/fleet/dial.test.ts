import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { createDialer, type Dialer } from '../../src/fleet/peer-client.ts';
import { createTestClock } from '../support/clock.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from './support.ts';

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

describe('a dialer', () => {
  it('connects to the currently known address, whatever the host name', async (t) => {
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

  it('fails immediately and resolves no name when no address is known', async () => {
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => undefined, timeoutMs: 100, clock });
    assert.equal((await dial(dialer, 1)).error?.code, 'address-unknown');
  });

  it('reports that a connection was refused', async (t) => {
    const { port, close } = await listen(t, (_, response) => response.end());
    await close();
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    assert.equal((await dial(dialer, port)).error?.code, 'ECONNREFUSED');
    assert.equal(clock.pendingCount(), 0);
  });

  it('aborts a connection attempt that takes too long', async (t) => {
    const port = await startFullListener(t);
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    const dialled = dial(dialer, port);
    await clock.advance(100);
    assert.equal((await dialled).error?.code, 'connect-timeout');
  });

  it('aborts connection attempts in progress when it is closed', async (t) => {
    const port = await startFullListener(t);
    const clock = createTestClock();
    const dialer = createDialer({ addressOf: () => '127.0.0.1', timeoutMs: 100, clock });
    const dialled = dial(dialer, port);
    dialer.close();
    assert.equal((await dialled).error?.code, 'closed');
    assert.equal(clock.pendingCount(), 0);
  });
});
