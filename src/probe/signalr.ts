/** SignalR and Blazor Server by long polling: a POST of `/negotiate` mints the id of the connection. */
import { asObject, parseJson } from '../json.ts';
import { readConnectionToken } from '../protocols/signalr.ts';
import type { Exchange, ProbeClient, ProbeResponse } from './http-client.ts';
import { lossOf, shownKeyOf } from './loss.ts';
import type { Call, Opening, Probe, ProbeSession } from './probe.ts';

export function createSignalRProbe(path: string): Probe {
  const where = `POST ${path}/negotiate`;
  return { preset: 'signalr', where, open: (client) => open(client, path) };
}

async function open(client: ProbeClient, path: string): Promise<Opening> {
  const target = `${path}/negotiate?negotiateVersion=1`;
  const exchange = await client.send({ method: 'POST', target });
  const response = exchange.kind === 'response' ? asObject(parseJson(exchange.body)) : undefined;
  if (exchange.kind === 'no-response' || !Array.isArray(response?.availableTransports)) {
    const isElsewhere = typeof response?.url === 'string' && 'accessToken' in response;
    if (isElsewhere) return { kind: 'stateless', what: 'it sends clients to another server' };
    return { kind: 'other', exchange };
  }
  if (!hasLongPolling(response.availableTransports)) {
    const why =
      'it offers no long polling, which this test needs: add HttpTransportType.LongPolling';
    return { kind: 'refused', why, exchange };
  }
  const id = readConnectionToken(exchange.body) ?? '';
  return { kind: 'opened', session: sessionOf(client, path, { id, opened: exchange }) };
}

function hasLongPolling(transports: readonly unknown[]): boolean {
  return transports.some((each) => asObject(each)?.transport === 'LongPolling');
}

const SEPARATOR = '\x1e';
const HANDSHAKE = `{"protocol":"json","version":1}${SEPARATOR}`;
const PING = `{"type":6}${SEPARATOR}`;

/** The first poll opens the transport, the first message is the handshake; each is repeated until it succeeds. */
function sessionOf(
  client: ProbeClient,
  path: string,
  { id, opened }: { readonly id: string; readonly opened: ProbeResponse },
): ProbeSession {
  const target = `${path}?id=${encodeURIComponent(id)}`;
  const send = (method: string, body?: string): Promise<Exchange> =>
    client.send({
      method,
      target,
      headers: { 'content-type': 'text/plain;charset=UTF-8' },
      ...(body !== undefined && { body }),
    });
  const steps = [
    (): Promise<Exchange> => send('GET'),
    (): Promise<Exchange> => send('POST', HANDSHAKE),
  ];
  const call = async (): Promise<Call> => {
    const [step] = steps;
    const exchange = await (step ? step() : send('POST', PING));
    const loss = lossOf(exchange, id);
    if (!loss) steps.shift();
    return { exchange, loss };
  };
  const close = async (): Promise<void> => {
    await send('DELETE');
  };
  return { key: shownKeyOf(id), opened, call, close };
}
