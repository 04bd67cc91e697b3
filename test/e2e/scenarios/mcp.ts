/** MCP over Streamable HTTP, from `initialize` to the 404 of a session that has ended. */
import assert from 'node:assert/strict';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { connectMcpClient, type McpClient } from '../support/mcp-client.ts';
import { retryingFetch } from '../support/retrying-fetch.ts';
import { hasExpectedForm, type Target } from '../support/target.ts';

/** An MCP client and its session. */
export interface McpSession extends McpClient {
  readonly transport: StreamableHTTPClientTransport;
  /** Resolves when the stream for the server's own messages is open, again if it was cut. */
  untilListening(): Promise<unknown>;
}

export async function openMcpSession(
  { url }: Target,
  fetchLike: typeof fetch = retryingFetch,
): Promise<McpSession> {
  let listening = Promise.withResolvers<unknown>();
  const transport = new StreamableHTTPClientTransport(new URL('/mcp', url), {
    reconnectionOptions: {
      initialReconnectionDelay: 50,
      maxReconnectionDelay: 500,
      reconnectionDelayGrowFactor: 1.5,
      maxRetries: 50,
    },
    fetch: async (address, init) => {
      const isStream = init?.method === 'GET';
      if (isStream) listening = Promise.withResolvers<unknown>();
      const response = await fetchLike(address, init);
      if (isStream && response.ok) listening.resolve(response.status);
      return response;
    },
  });
  const client = await connectMcpClient(transport);
  return { ...client, transport, untilListening: () => listening.promise };
}

/**
 * One client from start to end; every response must come from the process that opened the session.
 */
export async function runMcpScenario(target: Target): Promise<void> {
  const session = await openMcpSession(target);
  const { client, transport } = session;
  try {
    const { tools } = await client.listTools();
    assert.equal(tools.length, 3);
    const { machine, pid, count } = await session.call('count');
    assert.equal(count, 1);
    assert.ok(hasExpectedForm(transport.sessionId ?? '', machine, target), 'the id and its hint');
    assert.deepEqual(await session.call('count'), { machine, pid, count: 2 });

    const worked = await session.work(250);
    assert.deepEqual(worked, { machine, pid, count: 2, progress: [1, 2, 3, 4, 5] });

    await session.untilListening();
    const notified = session.nextNotification();
    await session.call('announce');
    assert.deepEqual(await notified, { machine, pid, count: 2 });
    await checkSessionEnd(target, session);
  } finally {
    await client.close();
  }
}

async function checkSessionEnd(target: Target, { transport }: McpSession): Promise<void> {
  const id = transport.sessionId ?? '';
  await transport.terminateSession();
  const late = await callWithId(target, id);
  assert.equal(late.status, 404);
  assert.match(await late.text(), /"code":-32001/);
}

/** A call of a client that has kept an id: the SDK's own client drops it. */
function callWithId({ url }: Target, id: string): Promise<Response> {
  return retryingFetch(`${url}/mcp`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': id,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'count', arguments: {} },
    }),
  });
}
