/** MCP over Streamable HTTP, with the official SDK. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createCounter } from './counter.ts';
import { respondJson, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';

export function createMcpDoor(): Door {
  const sessions = new Map<string, StreamableHTTPServerTransport>();

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const id = request.headers['mcp-session-id']?.toString();
    if (id !== undefined) noteRequest(request, id, sessions.has(id));
    const transport = id === undefined ? await openSession() : sessions.get(id);
    if (transport) await transport.handleRequest(request, response);
    else reject(response);
  }

  async function openSession(): Promise<StreamableHTTPServerTransport> {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => {
        noteOpened(id);
        sessions.set(id, transport);
      },
      onsessionclosed: (id) => {
        sessions.delete(id);
        noteEnded(id);
      },
    });
    await createCounter().connect(transport);
    return transport;
  }

  return { paths: ['/mcp'], handle };
}

/** "The server MUST respond to requests containing that session ID with HTTP 404 Not Found". */
function reject(response: ServerResponse): void {
  const error = { code: -32001, message: 'Session not found' };
  respondJson(response, 404, { jsonrpc: '2.0', error, id: null });
}
