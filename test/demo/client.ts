/** A real MCP client (official SDK), and the results of its session. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { parseSessionId, sessionKeyOf } from '../../src/session.ts';

/** The response of the server's tool. */
interface Counted {
  readonly machine: string;
  readonly count: number;
}

export interface DemoClient {
  /** Opens the session; a failure is included in the report. */
  open(): Promise<void>;
  /** Calls the tool once; a failure is included in the report. */
  call(): Promise<void>;
  close(): Promise<void>;
  report(): SessionReport;
}

export interface SessionReport {
  /** The beginning of the session's key: the id itself is a credential, and is not shown. */
  readonly session: string;
  /** The Machines that responded to calls. */
  readonly machines: readonly string[];
  readonly calls: number;
  /** Calls with a response, each with the count that this session must have by then. */
  readonly goodCalls: number;
  readonly firstError: string | undefined;
  /** `fly-request-id` of every request of the session, opening and calls. */
  readonly requestIds: readonly string[];
}

const SHOWN_KEY_LENGTH = 8;

export function createDemoClient(url: string): DemoClient {
  const requestIds: string[] = [];
  const machines = new Set<string>();
  let calls = 0;
  let goodCalls = 0;
  let firstError: string | undefined;
  const client = new Client({ name: 'demo', version: '1.0.0' });
  const transport = new StreamableHTTPClientTransport(new URL('/mcp', url), {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (init?.method === 'POST') requestIds.push(response.headers.get('fly-request-id') ?? '');
      return response;
    },
  });
  const noteFailure = (error: unknown): void => {
    firstError ??= serverMessage(error instanceof Error ? error.message : String(error));
  };
  return {
    // The SDK's types are not compatible with `exactOptionalPropertyTypes`.
    open: () => client.connect(transport as Transport).catch(noteFailure),
    call: async () => {
      calls += 1;
      try {
        const { machine, count } = await countOnce(client);
        machines.add(machine);
        if (count === calls) goodCalls += 1;
        else noteFailure(new Error(`call ${calls} was counted as ${count}`));
      } catch (error) {
        noteFailure(error);
      }
    },
    close: () => client.close(),
    report: () => ({
      session: shownKey(transport.sessionId),
      machines: [...machines],
      calls,
      goodCalls,
      firstError,
      requestIds,
    }),
  };
}

async function countOnce(client: Client): Promise<Counted> {
  const { content } = await client.callTool({ name: 'count' });
  const [first] = content as { text: string }[];
  return JSON.parse(first?.text ?? '') as Counted;
}

function shownKey(text: string | undefined): string {
  const id = parseSessionId(text ?? '');
  return id === undefined ? '(none)' : sessionKeyOf(id).slice(0, SHOWN_KEY_LENGTH);
}

/** The server's own message, extracted from the SDK's error. */
function serverMessage(text: string): string {
  return /"message":"([^"]*)"/.exec(text)?.[1] ?? text;
}
