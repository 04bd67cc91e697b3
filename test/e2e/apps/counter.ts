/** An MCP server whose responses depend on the earlier calls of the session. */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { z } from 'zod';
import { HERE } from './door.ts';

const PROGRESS_STEPS = 5;

/** One for each session. */
export function createCounter(): McpServer {
  const server = new McpServer(
    { name: 'counter', version: '1.0.0' },
    { capabilities: { logging: {} } },
  );
  let count = 0;
  const result = (): { content: { type: 'text'; text: string }[] } => ({
    content: [{ type: 'text', text: JSON.stringify({ ...HERE, count }) }],
  });

  server.registerTool('count', { description: 'Counts its calls in this session' }, () => {
    count += 1;
    return result();
  });
  server.registerTool(
    'work',
    { description: 'Takes some time and reports its progress', inputSchema: { ms: z.number() } },
    async ({ ms }, { _meta, sendNotification }) => {
      const progressToken = _meta?.progressToken;
      for (let progress = 1; progress <= PROGRESS_STEPS; progress += 1) {
        await new Promise((resolve) => setTimeout(resolve, ms / PROGRESS_STEPS));
        if (progressToken === undefined) continue;
        const params = { progressToken, progress, total: PROGRESS_STEPS };
        await sendNotification({ method: 'notifications/progress', params });
      }
      return result();
    },
  );
  // Not part of the response: it is sent over the stream that the client keeps open.
  server.registerTool('announce', { description: 'Sends a notification' }, async () => {
    await server.sendLoggingMessage({ level: 'info', data: { ...HERE, count } });
    return result();
  });
  return server;
}
