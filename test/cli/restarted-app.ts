/**
 * An MCP server with the official SDK, which responds 400 to an unknown session, as the servers of
 * MCP's own examples do. With `SESSIONS_FILE` it is an app of another kind: its sessions are kept
 * in that file over a restart.
 */
import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createCounter } from '../e2e/apps/counter.ts';

const file = process.env.SESSIONS_FILE;
const idOf = ({ headers }: IncomingMessage): string | undefined =>
  headers['mcp-session-id']?.toString();

const transports = new Map<string, StreamableHTTPServerTransport>();

async function serveMcp(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const id = idOf(request);
  const transport = id === undefined ? await openSession() : transports.get(id);
  if (transport) await transport.handleRequest(request, response);
  else response.writeHead(400).end('Bad Request: No valid session ID provided');
}

async function openSession(): Promise<StreamableHTTPServerTransport> {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void transports.set(id, transport),
  });
  await createCounter().connect(transport);
  return transport;
}

async function serveKept(
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
): Promise<void> {
  const ids = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
  const id = idOf(request);
  const body = await text(request);
  if (id === undefined) {
    const opened = randomUUID();
    appendFileSync(path, `${opened}\n`);
    response.writeHead(200, { 'mcp-session-id': opened }).end('opened');
  } else if (!ids.includes(id)) response.writeHead(400).end('unknown session');
  else if (body === 'malformed') response.writeHead(400).end('malformed call');
  else response.end('called');
}

createServer((request, response) => {
  void (file === undefined ? serveMcp(request, response) : serveKept(request, response, file));
}).listen(Number(process.env.PORT), '127.0.0.1');
