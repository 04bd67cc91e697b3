/** A client of MCP over Streamable HTTP, as light as it can be. */
import { z } from 'zod';
import type { Target } from '../support/target.ts';
import {
  ask,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  withoutHint,
  type Answer,
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

  function post(message: object): Promise<Answer | Outcome> {
    return ask(`${url}/mcp`, {
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
    const answer = await post({ ...INITIALIZE, id: (messages += 1) });
    if (isOutcome(answer)) return answer;
    if (answer.status !== 200) return outcomeOf(answer);
    session = answer.headers.get('mcp-session-id') ?? '';
    return call();
  }

  async function call(): Promise<Outcome> {
    const id = (messages += 1);
    const answer = await post({ ...COUNT, id });
    if (isOutcome(answer)) return answer;
    const own = withoutHint(session);
    if (isGone(answer, id)) return { kind: 'gone', session: own };
    if (answer.status !== 200) return outcomeOf(answer);
    const event = /^data: (.*)$/m.exec(answer.body)?.[1];
    // The stream ended before there was an answer: the app did.
    if (event === undefined) return { kind: 'cut', how: 'a stream without an answer' };
    return countedIn(own, Result.safeParse(jsonOf(event)).data?.result.content[0].text);
  }

  return { open, call, leave: () => undefined };
}

/** 404 and JSON-RPC error -32001: what makes the clients of MCP's SDKs start anew. */
function isGone({ status, body }: Answer, id: number): boolean {
  const NotFound = z.object({
    jsonrpc: z.literal('2.0'),
    error: z.object({ code: z.literal(-32001) }),
    id: z.literal(id).or(z.null()),
  });
  return status === 404 && NotFound.safeParse(jsonOf(body)).success;
}
