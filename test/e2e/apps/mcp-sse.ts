/** MCP over HTTP+SSE (revision 2024-11-05), with the official SDK. */
/* eslint-disable @typescript-eslint/no-deprecated -- deprecated, and in use: that is why it is tested */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { createCounter } from './counter.ts';
import { respondJson, urlOf, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';

const STREAM_PATH = '/sse';
const MESSAGES_PATH = '/messages';

export function createMcpSseDoor(): Door {
  const sessions = new Map<string, SSEServerTransport>();

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = urlOf(request);
    if (pathname === STREAM_PATH) {
      await openSession(response);
      return;
    }
    const id = searchParams.get('sessionId') ?? '';
    const transport = sessions.get(id);
    noteRequest(request, id, transport !== undefined);
    if (transport) await transport.handlePostMessage(request, response);
    else respondJson(response, 404, { message: 'Session not found' });
  }

  /** It lives as long as its stream. */
  async function openSession(response: ServerResponse): Promise<void> {
    const transport = new SSEServerTransport(MESSAGES_PATH, response);
    const { sessionId } = transport;
    sessions.set(sessionId, transport);
    noteOpened(sessionId);
    response.once('close', () => {
      sessions.delete(sessionId);
      noteEnded(sessionId);
    });
    await createCounter().connect(transport);
  }

  return { paths: [STREAM_PATH, MESSAGES_PATH], handle };
}
