/** A minimal client of MCP over Streamable HTTP. */
import { z } from 'zod';
import type { Target } from '../support/target.ts';
import {
  sendRequest,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  withoutHint,
  type HttpResponse,
  type Client,
  type Outcome,
} from './outcome.ts';

const PROTOCOL_VERSION = '2025-06-18';

const INITIALIZE = {
  method: 'initialize',
  params: {
    protocolVersion: PROTOCOL_VERSION,
    capabilities: {},
    clientInfo: { name: 'crowd', version: '1.0.0' },
  },
};
const COUNT = { method: 'tools/call', params: { name: 'count', arguments: {} } };

const Result = z.object({
  result: z.object({ content: z.tuple([z.object({ text: z.string() })]) }),
});

export function createMcpClient({ url }: Target): Client {
  let session = '';
  let messages = 0;

  function post(message: object): Promise<HttpResponse | Outcome> {
    return sendRequest(`${url}/mcp`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(session !== '' && {
          'mcp-session-id': session,
          'mcp-protocol-version': PROTOCOL_VERSION,
        }),
      },
      body: JSON.stringify({ jsonrpc: '2.0', ...message }),
    });
  }

  async function open(): Promise<Outcome> {
    session = '';
    const response = await post({ ...INITIALIZE, id: (messages += 1) });
    if (isOutcome(response)) return response;
    if (response.status !== 200) return outcomeOf(response);
    session = response.headers.get('mcp-session-id') ?? '';
    return call();
  }

  async function call(): Promise<Outcome> {
    const id = (messages += 1);
    const response = await post({ ...COUNT, id });
    if (isOutcome(response)) return response;
    const own = withoutHint(session);
    if (isGone(response, id)) return { kind: 'gone', session: own };
    if (response.status !== 200) return outcomeOf(response);
    const event = /^data: (.*)$/m.exec(response.body)?.[1];
    // The stream ended before a response: the app did.
    if (event === undefined) return { kind: 'cut', how: 'a stream without a response' };
    return countedIn(own, Result.safeParse(jsonOf(event)).data?.result.content[0].text);
  }

  return { open, call, leave: () => undefined };
}

/** 404 and JSON-RPC error -32001: makes the clients of MCP's SDKs start a new session. */
function isGone({ status, body }: HttpResponse, id: number): boolean {
  const NotFound = z.object({
    jsonrpc: z.literal('2.0'),
    error: z.object({ code: z.literal(-32001) }),
    id: z.literal(id).or(z.null()),
  });
  return status === 404 && NotFound.safeParse(jsonOf(body)).success;
}
