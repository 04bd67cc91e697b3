/** A session opened over HTTP, whose calls go over WebSockets that name it in their query. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { systemClock } from '../../../src/clock.ts';
import { Counted } from '../support/mcp-client.ts';
import { MAX_TRIES, retryingFetch, RETRY_AFTER_MS } from '../support/retrying-fetch.ts';
import { hasExpectedForm, type Target } from '../support/target.ts';

const Opened = z.object({ machine: z.string(), pid: z.number(), session: z.string() });

interface RpcSession extends z.infer<typeof Opened> {
  /** The id from the header; `session` is the id from the app's response body. */
  readonly id: string;
}

export async function openRpcSession(
  { url }: Target,
  fetchLike: typeof fetch = retryingFetch,
): Promise<RpcSession> {
  const response = await fetchLike(`${url}/rpc`, { method: 'POST' });
  assert.equal(response.status, 200);
  const id = response.headers.get('x-session-id') ?? '';
  return { id, ...Opened.parse(await response.json()) };
}

export async function runRpcScenario(target: Target): Promise<void> {
  const { id, machine, pid, session } = await openRpcSession(target);
  assert.ok(hasExpectedForm(id, machine, target), 'the id and its hint');

  const first = await openSocket(target, id);
  assert.deepEqual(await callOver(first), { machine, pid, count: 1 });
  assert.deepEqual(await callOver(first), { machine, pid, count: 2 });
  // An id from a body carries no hint, whatever the setting.
  const second = await openSocket(target, session);
  assert.deepEqual(await callOver(second), { machine, pid, count: 3 });
  assert.deepEqual(await callOver(first), { machine, pid, count: 4 });
  await Promise.all([closeSocket(first), closeSocket(second)]);

  const overHttp = await retryingFetch(`${target.url}/rpc/call?session_id=${id}`);
  assert.deepEqual(Counted.parse(await overHttp.json()), { machine, pid, count: 5 });
  await checkRejectedUpgrade(target);
}

/** The app's response instead of 101 reaches the client completely. */
async function checkRejectedUpgrade({ url }: Target): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/rpc?session_id=made-up`);
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    const body = await text(response);
    if (response.statusCode === 503 && tries < MAX_TRIES) {
      await systemClock.sleep(RETRY_AFTER_MS);
      continue;
    }
    assert.deepEqual([response.statusCode, body], [404, 'no such session']);
    return;
  }
}

/** Retries while the response is a 503. */
export async function openSocket({ url }: Target, id: string): Promise<WebSocket> {
  for (let tries = 1; ; tries += 1) {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/rpc?session_id=${id}`);
    try {
      await once(socket, 'open');
      return socket;
    } catch (error) {
      if (!String(error).endsWith('response: 503') || tries === MAX_TRIES) throw error;
      await systemClock.sleep(RETRY_AFTER_MS);
    }
  }
}

/** Rejects if the socket is cut before a response. */
export function callOver(socket: WebSocket): Promise<Counted> {
  return new Promise((resolve, reject) => {
    const onClose = (code: number): void => reject(new Error(`the socket was closed: ${code}`));
    socket.once('close', onClose);
    socket.once('message', (message: Buffer) => {
      socket.off('close', onClose);
      resolve(Counted.parse(JSON.parse(message.toString())));
    });
    socket.send('count', (error) => {
      if (error) reject(error);
    });
  });
}

async function closeSocket(socket: WebSocket): Promise<void> {
  const closed = once(socket, 'close');
  socket.close(1000);
  const [code] = (await closed) as [number];
  assert.equal(code, 1000);
}
