/** A burst of connections while the event loop is busy. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

const BURST = 1_500;

/** Listens, and then accepts nothing until it is told to. */
const BUSY_SERVER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { createServer } = require('node:net');
  import(workerData.listener).then(async ({ listen }) => {
    const server = createServer((socket) => socket.end('accepted'));
    parentPort.postMessage(await listen(server, { host: '127.0.0.1', port: 0 }));
    Atomics.wait(workerData.gate, 0, 0);
  });`;

function isCapped(): boolean {
  try {
    return Number(readFileSync('/proc/sys/net/core/somaxconn', 'latin1')) <= BURST;
  } catch {
    return true;
  }
}

test(
  'all of a burst are connected before one is accepted, and each is served then',
  { skip: isCapped() && 'net.core.somaxconn is low, or this is not Linux' },
  async (t) => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const listener = new URL('../../src/http/listener.ts', import.meta.url).href;
    const worker = new Worker(BUSY_SERVER, { eval: true, workerData: { gate, listener } });
    const sockets: Socket[] = [];
    t.after(async () => {
      for (const socket of sockets) socket.destroy();
      await worker.terminate();
    });
    const [port] = (await once(worker, 'message')) as [number];
    for (let count = 0; count < BURST; count += 1) sockets.push(connect(port, '127.0.0.1'));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    const texts = sockets.map(async (socket) => (await socket.toArray()).join(''));
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    assert.deepEqual(new Set(await Promise.all(texts)), new Set(['accepted']));
  },
);
