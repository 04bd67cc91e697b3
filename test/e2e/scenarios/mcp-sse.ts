/** MCP over HTTP+SSE: calls are sent as requests of their own, responses arrive over the stream. */
/* eslint-disable @typescript-eslint/no-deprecated -- deprecated, and in use: that is why it is tested */
import assert from 'node:assert/strict';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { connectMcpClient } from '../support/mcp-client.ts';
import { retryingFetch } from '../support/retrying-fetch.ts';
import { hasExpectedForm, type Target } from '../support/target.ts';

export async function runMcpSseScenario(target: Target): Promise<void> {
  const posted: string[] = [];
  const transport = new SSEClientTransport(new URL('/sse', target.url), {
    fetch: async (address, init) => {
      const response = await retryingFetch(address, init);
      if (init?.method === 'POST') {
        posted.push(new URL(address).searchParams.get('sessionId') ?? '');
        assert.equal(response.status, 202);
      }
      return response;
    },
  });
  const session = await connectMcpClient(transport);
  try {
    const { machine, pid } = await session.call('count');
    assert.ok(posted.every((id) => hasExpectedForm(id, machine, target)));
    assert.equal(new Set(posted).size, 1);

    const worked = await session.work(100);
    assert.deepEqual(worked, { machine, pid, count: 1, progress: [1, 2, 3, 4, 5] });

    const notified = session.nextNotification();
    await session.call('announce');
    assert.deepEqual(await notified, { machine, pid, count: 1 });
    assert.deepEqual(await session.call('count'), { machine, pid, count: 2 });
  } finally {
    await session.client.close();
  }
}
