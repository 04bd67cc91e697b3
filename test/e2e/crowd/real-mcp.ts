/** The official SDK's client, in the crowd. */
import { Client as SdkClient } from '@modelcontextprotocol/sdk/client/index.js';
import {
  StreamableHTTPClientTransport,
  StreamableHTTPError,
} from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpError } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { Target } from '../support/target.ts';
import { countedIn, withoutHint, type Client, type Outcome } from './outcome.ts';

const Content = z.tuple([z.object({ text: z.string() })]);
/** A call without a response by then has lost it, in ms. */
const TIMEOUT_MS = 60_000;

export function createRealMcpClient({ url }: Target): Client {
  let client: SdkClient | undefined;
  let transport: StreamableHTTPClientTransport | undefined;

  async function open(): Promise<Outcome> {
    leave();
    client = new SdkClient({ name: 'crowd', version: '1.0.0' });
    transport = new StreamableHTTPClientTransport(new URL('/mcp', url));
    try {
      await client.connect(transport);
    } catch (error) {
      return outcomeOfError(error, transport.sessionId);
    }
    return call();
  }

  async function call(): Promise<Outcome> {
    const id = transport?.sessionId;
    try {
      const params = { name: 'count', arguments: {} };
      const result = await client?.callTool(params, undefined, { timeout: TIMEOUT_MS });
      return countedIn(withoutHint(id ?? ''), Content.safeParse(result?.content).data?.[0].text);
    } catch (error) {
      return outcomeOfError(error, id);
    }
  }

  function leave(): void {
    // It emits no event: open resources are closed on this side.
    void client?.close().catch(() => undefined);
  }

  return { open, call, leave };
}

/** The SDK does not distinguish a 503 from the edge's own errors. */
function outcomeOfError(error: unknown, id: string | undefined): Outcome {
  if (error instanceof StreamableHTTPError && error.code === 404 && id !== undefined) {
    return { kind: 'gone', session: withoutHint(id) };
  }
  if (error instanceof StreamableHTTPError && [502, 503, 504].includes(error.code ?? 0)) {
    return { kind: 'cut', how: `status ${error.code ?? 0}` };
  }
  if (error instanceof McpError) return { kind: 'cut', how: error.message };
  const isLost = error instanceof TypeError && /^(fetch failed|terminated)$/.test(error.message);
  return isLost ? { kind: 'cut', how: error.message } : { kind: 'wrong', what: String(error) };
}
