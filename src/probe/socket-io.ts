/**
 * Socket.IO by long polling: the first response has the id of the session, and a heartbeat is a call that changes
 * nothing. A client that connects by WebSocket at once needs no session: its connection is one.
 */
import { asObject, parseJson } from '../json.ts';
import { readSid, SOCKET_IO } from '../protocols/socket-io.ts';
import { unknownSessionStatus } from '../protocols/error-responses.ts';
import type { Exchange, ProbeClient } from './http-client.ts';
import { lossOf, describeExchange, shownKeyOf } from './loss.ts';
import type { Call, Opening, Probe, ProbeSession } from './probe.ts';

export function createSocketIoProbe(path: string): Probe {
  return {
    preset: 'socket.io',
    where: `GET ${path} (polling)`,
    open: (client) => open(client, path),
  };
}

interface Version {
  readonly query: string;
  /** What a client may send at any time: in version 4 the response to a ping, in version 3 a ping. */
  readonly heartbeat: string;
  readonly closing: string;
}

const VERSION_4: Version = { query: '?EIO=4&transport=polling', heartbeat: '3', closing: '1' };
/** Each packet has its length before it. */
const VERSION_3: Version = { query: '?EIO=3&transport=polling', heartbeat: '1:2', closing: '1:1' };

async function open(client: ProbeClient, path: string): Promise<Opening> {
  const exchange = await client.send({ method: 'GET', target: path + VERSION_4.query });
  if (exchange.kind === 'no-response') return { kind: 'other', exchange };
  const id = exchange.status === 200 ? readSid(exchange.body) : undefined;
  if (id === undefined) return notOpened(exchange);
  const version = exchange.body.startsWith('0') ? VERSION_4 : VERSION_3;
  const target = `${path}${version.query}&sid=${encodeURIComponent(id)}`;
  return { kind: 'opened', session: sessionOf({ client, target, id, version, opened: exchange }) };
}

const TRANSPORT_UNKNOWN = 0;

function notOpened(exchange: Exchange): Opening {
  const body = exchange.kind === 'response' ? exchange.body : '';
  const { code, message } = asObject(parseJson(body)) ?? {};
  // An error of Engine.IO.
  if (typeof code !== 'number' || typeof message !== 'string') return { kind: 'other', exchange };
  return code === TRANSPORT_UNKNOWN
    ? { kind: 'stateless', what: 'it takes WebSockets only, and a connection is a whole session' }
    : { kind: 'refused', why: `it refuses the handshake: ${describeExchange(exchange)}`, exchange };
}

interface Polling {
  readonly client: ProbeClient;
  readonly target: string;
  readonly id: string;
  readonly version: Version;
  readonly opened: Exchange;
}

function sessionOf({ client, target, id, version, opened }: Polling): ProbeSession {
  const post = (packet: string): Promise<Exchange> =>
    client.send({
      method: 'POST',
      target,
      headers: { 'content-type': 'text/plain;charset=UTF-8' },
      body: packet,
    });
  const call = async (): Promise<Call> => {
    const exchange = await post(version.heartbeat);
    return { exchange, loss: lossOf(exchange, id, unknownSessionStatus(SOCKET_IO)) };
  };
  const close = async (): Promise<void> => {
    await post(version.closing);
  };
  return { key: shownKeyOf(id), opened, call, close };
}
