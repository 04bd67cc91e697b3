/** The messages of JSON-RPC that the probes of MCP send, and those that they find in bodies and event streams. */
import { asObject, parseJson } from '../json.ts';
import { parseSseField } from '../protocols/sse-lines.ts';

export interface RpcMessage {
  readonly jsonrpc: '2.0';
  /** A notification has none. */
  readonly id?: number;
  readonly method: string;
  readonly params?: object;
}

export function rpcRequest(id: number, method: string, params: object = {}): RpcMessage {
  return { jsonrpc: '2.0', id, method, params };
}

/** Any server answers with the revision that it prefers, if it does not know this one. */
export const INITIALIZE = {
  protocolVersion: '2025-06-18',
  capabilities: {},
  clientInfo: { name: 'fly-affinity', version: '1.0.0' },
};

export const INITIALIZED: RpcMessage = { jsonrpc: '2.0', method: 'notifications/initialized' };

interface RpcResponse {
  readonly result: Readonly<Record<string, unknown>> | undefined;
  readonly error: Readonly<Record<string, unknown>> | undefined;
}

/** The response in a JSON body, or in an event stream that may not have ended. Without an id: any. */
export function findRpcMessage(body: string, id?: number): RpcResponse | undefined {
  const texts = /^\s*\{/.test(body) ? [body] : eventsIn(body).map(({ data }) => data);
  for (const text of texts) {
    const message = asObject(parseJson(text));
    if (message?.jsonrpc !== '2.0' || (id !== undefined && message.id !== id)) continue;
    const response = { result: asObject(message.result), error: asObject(message.error) };
    if (response.result ?? response.error) return response;
  }
  return undefined;
}

interface ServerSentEvent {
  readonly event: string;
  readonly data: string;
}

/** The events that are complete. */
export function eventsIn(text: string): readonly ServerSentEvent[] {
  const blocks = text
    .replace(/^\uFEFF/, '')
    .replaceAll(/\r\n?/g, '\n')
    .split('\n\n');
  return blocks.slice(0, -1).map((block) => {
    const fields = block.split('\n').map(parseSseField);
    const valuesOf = (name: string): string[] =>
      fields.filter(({ field }) => field === name).map(({ value }) => value);
    return { event: valuesOf('event').at(-1) ?? 'message', data: valuesOf('data').join('\n') };
  });
}
