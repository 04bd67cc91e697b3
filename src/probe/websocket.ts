/** A WebSocket of the probes: its handshake, which is all that tells who serves it. Then it is closed. */
import { randomBytes } from 'node:crypto';
import { request as requestHttp, type ClientRequest, type IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';

/** Stands in place of a method. */
export const WEBSOCKET = 'WS';
export const SWITCHING_PROTOCOLS = 101;

export interface Handshake {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** What came in place of a WebSocket. */
  readonly body: string;
}

const KEY_BYTES = 16;
/** RFC 6455 §5.5.1, with a mask of zeros: no status, no reason. */
const CLOSE_FRAME = Buffer.from([0x88, 0x80, 0, 0, 0, 0]);

/** On a connection of its own. Rejects if no response comes, or on abort. */
export async function shakeHands(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Handshake> {
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  const request = send(url, {
    agent: false,
    signal,
    headers: {
      ...headers,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(KEY_BYTES).toString('base64'),
    },
  });
  request.end();
  const response = await responseTo(request);
  const { statusCode: status = 0, headers: fields } = response;
  const body = status === SWITCHING_PROTOCOLS ? '' : await text(response);
  return { status, headers: fields, body };
}

function responseTo(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('error', reject);
    request.once('response', resolve);
    request.once('upgrade', (response: IncomingMessage, socket: Socket) => {
      socket.on('error', () => undefined);
      socket.end(CLOSE_FRAME);
      socket.destroySoon();
      resolve(response);
    });
  });
}
