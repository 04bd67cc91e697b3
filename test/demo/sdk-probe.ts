/** The official SDK's client of MCP, as a probe: it does all that a real client does. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Exchange } from '../../src/probe/http-client.ts';
import { shownKeyOf } from '../../src/probe/loss.ts';
import type { Call, Loss, Probe, ProbeSession } from '../../src/probe/probe.ts';

/** The response of the server's tool. */
interface Counted {
  readonly machine: string;
  readonly count: number;
}

export function createSdkProbe(): Probe {
  return {
    preset: 'mcp',
    where: 'POST /mcp',
    open: async ({ origin }) => {
      const { transport, last } = createTransport(origin);
      const client = new Client({ name: 'demo', version: '1.0.0' });
      try {
        await client.connect(transport);
      } catch (error) {
        await client.close();
        return { kind: 'refused', why: messageOf(error), exchange: last() };
      }
      return { kind: 'opened', session: sessionOf(client, transport, last) };
    },
  };
}

const NOTHING: Exchange = { kind: 'no-response', why: 'broken', code: 'none', ms: 0 };

/** `last`: the exchange of the last POST. */
function createTransport(origin: string): {
  readonly transport: StreamableHTTPClientTransport;
  readonly last: () => Exchange;
} {
  let exchange: Exchange = NOTHING;
  const transport = new StreamableHTTPClientTransport(new URL('/mcp', origin), {
    fetch: async (input, init) => {
      const startedAt = performance.now();
      const response = await fetch(input, init);
      if (init?.method === 'POST') {
        const { status, headers } = response;
        const ms = performance.now() - startedAt;
        exchange = { kind: 'response', status, headers: Object.fromEntries(headers), ms, body: '' };
      }
      return response;
    },
  });
  return { transport, last: () => exchange };
}

function sessionOf(
  client: Client,
  transport: StreamableHTTPClientTransport,
  last: () => Exchange,
): ProbeSession {
  let answered = 0;
  const call = async (): Promise<Call> => {
    try {
      const { count } = await countOnce(client);
      answered += 1;
      return {
        exchange: last(),
        loss: count === answered ? undefined : miscounted(answered, count),
      };
    } catch (error) {
      return { exchange: last(), loss: { how: 'error', why: messageOf(error) } };
    }
  };
  return {
    key: shownKeyOf(transport.sessionId ?? ''),
    opened: last(),
    call,
    close: () => client.close(),
  };
}

function miscounted(answered: number, count: number): Loss {
  return { how: 'new-session', why: `call ${answered} was counted as ${count}` };
}

async function countOnce(client: Client): Promise<Counted> {
  const { content } = await client.callTool({ name: 'count' });
  const [first] = content as { text: string }[];
  return JSON.parse(first?.text ?? '') as Counted;
}

/** The server's own message, extracted from the SDK's error. */
function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /"message":"([^"]*)"/.exec(text)?.[1] ?? text;
}
