/** A session of JSON-RPC, over HTTP and over WebSockets, before and after the restart. */
import assert from 'node:assert/strict';
import { callOver, openRpcSession, openSocket } from '../../scenarios/rpc.ts';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';

const CALLS_OF_EACH_HALF = 4;

export async function runRpc(target: Target, midway: () => Promise<void>): Promise<void> {
  const { id, machine, pid } = await openRpcSession(target);
  let count = 0;
  const callAll = async (): Promise<void> => {
    for (let calls = 0; calls < CALLS_OF_EACH_HALF; calls += 1) {
      assert.deepEqual(await callOnce(target, id), { machine, pid, count: (count += 1) });
      const socket = await openSocket(target, id);
      assert.deepEqual(await callOver(socket), { machine, pid, count: (count += 1) });
      socket.close();
    }
  };
  await callAll();
  await midway();
  await callAll();
}

async function callOnce({ url }: Target, id: string): Promise<Counted> {
  const response = await retryingFetch(`${url}/rpc/call`, {
    method: 'POST',
    headers: { 'x-session-id': id },
  });
  return Counted.parse(await response.json());
}
