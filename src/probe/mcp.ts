/** MCP over Streamable HTTP: `initialize` opens a session, whose id is in a header from then on. */
import { asObject, asText } from '../json.ts';
import type {
  Exchange,
  HeaderFields,
  ProbeClient,
  ProbeRequest,
  ProbeResponse,
} from './http-client.ts';
import {
  findRpcMessage,
  INITIALIZE,
  INITIALIZED,
  rpcRequest,
  type RpcMessage,
} from './json-rpc.ts';
import { lossOf, describeExchange, shown, shownKeyOf } from './loss.ts';
import type { Call, Loss, Opening, Probe, ProbeSession } from './probe.ts';

const SESSION_HEADER = 'mcp-session-id';

const OPENING_ID = 0;

export function createMcpProbe(path: string): Probe {
  return { preset: 'mcp', where: `POST ${path}`, open: (client) => open(client, path) };
}

async function open(client: ProbeClient, path: string): Promise<Opening> {
  const exchange = await client.send(post(path, rpcRequest(OPENING_ID, 'initialize', INITIALIZE)));
  if (exchange.kind === 'no-response') return { kind: 'other', exchange };
  const message = findRpcMessage(exchange.body, OPENING_ID);
  const version = asText(message?.result?.protocolVersion);
  const id = exchange.headers[SESSION_HEADER]?.toString();
  const isMcp = version !== undefined || id !== undefined;
  if (!message?.result || !isMcp) return notOpened(exchange);
  if (id === undefined) {
    return { kind: 'stateless', what: `its response to initialize has no ${SESSION_HEADER}` };
  }
  const hasTools = asObject(message.result.capabilities)?.tools !== undefined;
  const method = hasTools ? 'tools/list' : 'ping';
  const headers = {
    [SESSION_HEADER]: id,
    ...(version !== undefined && { 'mcp-protocol-version': version }),
  };
  return { kind: 'opened', session: sessionOf({ client, path, id, headers, method }, exchange) };
}

/** A server of MCP says so with an error of JSON-RPC, or asks for a token (MCP, "Authorization"). */
function notOpened(exchange: ProbeResponse): Opening {
  const error = findRpcMessage(exchange.body)?.error;
  const asksForToken = /resource_metadata/i.test(
    exchange.headers['www-authenticate']?.toString() ?? '',
  );
  if (!error && !asksForToken) return { kind: 'other', exchange };
  const why = asksForToken
    ? 'it asks for a token: add --header "Authorization: Bearer ..."'
    : `it refuses initialize: ${describeExchange(exchange)}`;
  return { kind: 'refused', why, exchange };
}

interface McpSession {
  readonly client: ProbeClient;
  readonly path: string;
  readonly id: string;
  readonly headers: HeaderFields;
  /** Of the calls. */
  readonly method: string;
}

/** Its first call is the notification that every client sends; it is repeated until it arrives. */
function sessionOf(
  { client, path, id, headers, method }: McpSession,
  opened: Exchange,
): ProbeSession {
  let isInitialized = false;
  let calls = 0;
  const call = async (): Promise<Call> => {
    calls += 1;
    const message = isInitialized ? rpcRequest(calls, method) : INITIALIZED;
    const exchange = await client.send(post(path, message, headers));
    const loss = lossOf(exchange, id) ?? lossInBody(exchange, id);
    if (!loss) isInitialized = true;
    return { exchange, loss };
  };
  return {
    key: shownKeyOf(id),
    opened,
    call,
    close: async () => {
      await client.send({ method: 'DELETE', target: path, headers });
    },
  };
}

function post(path: string, message: RpcMessage, headers: HeaderFields = {}): ProbeRequest {
  return {
    method: 'POST',
    target: path,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify(message),
    // A server may leave the event stream open behind its response.
    isEnough: (body) => message.id !== undefined && findRpcMessage(body, message.id) !== undefined,
  };
}

/** Some servers report an unknown session with status 200. */
function lossInBody(exchange: Exchange, id: string): Loss | undefined {
  const body = exchange.kind === 'response' ? exchange.body : '';
  const message = asText(findRpcMessage(body)?.error?.message);
  if (message === undefined || !/session/i.test(message)) return undefined;
  return { how: 'error', why: `200 ${shown(message, id)}` };
}
