/** Waits for servers that don't report when they listen. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PinnedProcess } from './pinned.ts';

const TIMEOUT_MS = 15_000;
const POLL_MS = 50;

/** Resolves when the process accepts connections; stops it and rejects at the timeout. */
export async function untilListening(port: number, process: PinnedProcess): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await accepts(port))) {
    const { exitCode } = process.child;
    const hasEnded = exitCode !== null;
    if (hasEnded || performance.now() > deadline) {
      await process.stop();
      throw new Error(hasEnded ? `the candidate exited with ${exitCode}` : 'nobody listens');
    }
    await sleep(POLL_MS);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const finish = (isListening: boolean): void => {
      socket.destroy();
      resolve(isListening);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}
