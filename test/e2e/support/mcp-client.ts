/** A client of the MCP SDK, and the results of its calls of the test app's tools. */
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import {
  LoggingMessageNotificationSchema,
  ProgressNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';

export const Counted = z.object({ machine: z.string(), pid: z.number(), count: z.number() });

/** The process that responded, and the number of calls in this session. */
export type Counted = z.infer<typeof Counted>;

export interface McpClient {
  readonly client: Client;
  call(tool: string, args?: Record<string, unknown>): Promise<Counted>;
  /** A long call, and its reported progress. */
  work(ms: number): Promise<Counted & { readonly progress: readonly number[] }>;
  /** Resolves with the next notification that the server sends on its own. */
  nextNotification(): Promise<Counted>;
}

/** A call without a response by then has lost it, in ms. */
const CALL_TIMEOUT_MS = 60_000;

/** Resolves once the session is open. */
export async function connectMcpClient(transport: Transport): Promise<McpClient> {
  const client = new Client({ name: 'test', version: '1.0.0' });
  let waiting: ((counted: Counted) => void) | undefined;
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) =>
    waiting?.(Counted.parse(params.data)),
  );
  let progress: number[] = [];
  // The client itself drops the last progress event when the result arrives in the same packet.
  transport.onmessage = (message) => {
    const notification = ProgressNotificationSchema.safeParse(message);
    if (notification.success) progress.push(notification.data.params.progress);
  };
  await client.connect(transport);

  async function call(name: string, args: Record<string, unknown> = {}): Promise<Counted> {
    const options = { timeout: CALL_TIMEOUT_MS, onprogress: () => undefined };
    const result = await client.callTool({ name, arguments: args }, undefined, options);
    const [content] = z.array(z.object({ text: z.string() })).parse(result.content);
    assert.ok(content && result.isError !== true, JSON.stringify(result));
    return Counted.parse(JSON.parse(content.text));
  }

  return {
    client,
    call,
    work: async (ms) => {
      progress = [];
      const counted = await call('work', { ms });
      return { ...counted, progress };
    },
    nextNotification: () => new Promise((resolve) => (waiting = resolve)),
  };
}
