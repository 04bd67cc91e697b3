/**
 * Runs in its own thread: the client of one product. The edge is in the main thread, and must not
 * be slowed down; an error that a library throws on its own ends this thread only.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import type { Target } from '../support/target.ts';
import { productOf } from './catalogue.ts';

export interface ClientPlan {
  readonly name: string;
  readonly target: Target;
}

/** The response to `midway` is any message. */
export type ClientMessage = 'midway' | 'done';

assert.ok(parentPort);
const port = parentPort;
const { name, target } = workerData as ClientPlan;

function send(message: ClientMessage): void {
  port.postMessage(message);
}

async function midway(): Promise<void> {
  const resumed = once(port, 'message');
  send('midway');
  await resumed;
}

const run = await productOf(name).loadClient();
await run(target, midway);
send('done');
