/** MCP over Streamable HTTP: one session before and after the restart. */
import assert from 'node:assert/strict';
import { openMcpSession } from '../../scenarios/mcp.ts';
import type { Target } from '../../support/target.ts';

const CALLS = 4;

export async function runMcp(target: Target, midway: () => Promise<void>): Promise<void> {
  const session = await openMcpSession(target);
  try {
    const { machine, pid } = await session.call('count');
    for (let count = 2; count <= CALLS; count += 1) {
      assert.deepEqual(await session.call('count'), { machine, pid, count });
    }
    await midway();
    for (let count = CALLS + 1; count <= 2 * CALLS; count += 1) {
      assert.deepEqual(await session.call('count'), { machine, pid, count });
    }
    await session.transport.terminateSession();
  } finally {
    await session.client.close();
  }
}
