/**
 * MCP over HTTP with SSE (revision 2024-11-05): the stream is the session, and its `endpoint` event has the URL for
 * the messages; what answers them comes on the stream.
 */
import type { OpenedStream, ProbeClient } from './http-client.ts';
import {
  eventsIn,
  findRpcMessage,
  INITIALIZE,
  INITIALIZED,
  rpcRequest,
  type RpcMessage,
} from './json-rpc.ts';
import { lossOf, shownKeyOf } from './loss.ts';
import type { Call, Opening, Probe, ProbeSession } from './probe.ts';

export function createMcpSseProbe(path: string): Probe {
  return {
    preset: 'mcp-sse',
    where: `GET ${path} (event stream)`,
    open: (client) => open(client, path),
  };
}

async function open(client: ProbeClient, path: string): Promise<Opening> {
  const headers = { accept: 'text/event-stream' };
  const stream = await client.open({ method: 'GET', target: path, headers });
  if (stream.kind === 'no-response') return { kind: 'other', exchange: stream };
  const isStream = /^text\/event-stream/i.test(stream.headers['content-type']?.toString() ?? '');
  const hasEndpoint = isStream && (await stream.until((text) => endpointIn(text) !== undefined));
  const endpoint = endpointIn(stream.text());
  const exchange = { ...stream, body: stream.text() };
  if (!hasEndpoint || endpoint === undefined) {
    stream.close();
    return { kind: 'other', exchange };
  }
  const target = targetOf(endpoint, new URL(path, client.origin).href);
  if (target === undefined) {
    stream.close();
    return { kind: 'refused', why: 'its endpoint event leads to another host', exchange };
  }
  return { kind: 'opened', session: sessionOf(client, stream, target) };
}

function endpointIn(text: string): string | undefined {
  return eventsIn(text).find(({ event }) => event === 'endpoint')?.data;
}

/** Path and query; the scheme of a URL may be that of the hop behind a proxy. */
function targetOf(endpoint: string, base: string): string | undefined {
  if (!URL.canParse(endpoint, base)) return undefined;
  const { host, pathname, search } = new URL(endpoint, base);
  return host === new URL(base).host ? pathname + search : undefined;
}

/** The first calls are the handshake of MCP; each is repeated until it succeeds. */
function sessionOf(client: ProbeClient, stream: OpenedStream, target: string): ProbeSession {
  const id = idIn(target);
  let successes = 0;
  let calls = 0;
  const call = async (): Promise<Call> => {
    calls += 1;
    const message = messageOf(successes, calls);
    const exchange = await client.send({
      method: 'POST',
      target,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(message),
    });
    const { id: messageId } = message;
    const isAnswered = (text: string): boolean =>
      messageId === undefined || findRpcMessage(text, messageId) !== undefined;
    const loss = lossOf(exchange, id);
    if (loss) return { exchange, loss };
    if (await stream.until(isAnswered)) successes += 1;
    else return { exchange, loss: { how: 'no-response', why: 'nothing came on the stream' } };
    return { exchange, loss: undefined };
  };
  return {
    key: shownKeyOf(id),
    opened: { ...stream, body: stream.text() },
    call,
    close: () => {
      stream.close();
      return Promise.resolve();
    },
  };
}

function messageOf(successes: number, id: number): RpcMessage {
  if (successes === 0) return rpcRequest(id, 'initialize', INITIALIZE);
  return successes === 1 ? INITIALIZED : rpcRequest(id, 'ping');
}

/** The first value in the query, or all of it: servers have many names for it. */
function idIn(target: string): string {
  const [path = '', query = ''] = target.split('?', 2);
  return [...new URLSearchParams(query).values()][0] ?? path;
}
