/**
 * A typical MCP server: official SDK, Streamable HTTP, sessions in the memory of this process. It
 * does not know other Machines.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const { PORT, FLY_MACHINE_ID = 'local' } = process.env;

const sessions = new Map<string, StreamableHTTPServerTransport>();

createServer((request, response) => {
  handle(request, response).catch((error: unknown) => {
    console.error(error);
    response.destroy();
  });
}).listen(Number(PORT), '127.0.0.1');

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const id = request.headers['mcp-session-id']?.toString();
  const transport = id === undefined ? await openSession() : sessions.get(id);
  if (transport) await transport.handleRequest(request, response);
  else reject(response);
}

async function openSession(): Promise<StreamableHTTPServerTransport> {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void sessions.set(id, transport),
    onsessionclosed: (id) => void sessions.delete(id),
  });
  await createCounter().connect(transport);
  return transport;
}

/** One tool, whose state is in memory: the number of its calls in this session. */
function createCounter(): McpServer {
  const server = new McpServer({ name: 'counter', version: '1.0.0' });
  let count = 0;
  server.registerTool('count', { description: 'Counts its calls in this session' }, () => {
    count += 1;
    const text = JSON.stringify({ machine: FLY_MACHINE_ID, count });
    return { content: [{ type: 'text', text }] };
  });
  return server;
}

/** "The server MUST respond to requests containing that session ID with HTTP 404 Not Found". */
function reject(response: ServerResponse): void {
  const error = { code: -32001, message: 'Session not found' };
  response.writeHead(404, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
}
