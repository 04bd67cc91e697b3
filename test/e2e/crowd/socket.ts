/** A client whose calls go over a WebSocket that names the session in its query. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { WebSocket } from 'ws';
import type { Target } from '../support/target.ts';
import {
  sendRequest,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  Problem,
  withoutHint,
  type Client,
  type Outcome,
} from './outcome.ts';

/** A call without a response by then has lost it, in ms. */
const HANGING_MS = 60_000;

export function createSocketClient({ url }: Target): Client {
  let id = '';
  let socket: WebSocket | undefined;

  async function open(): Promise<Outcome> {
    leave();
    const response = await sendRequest(`${url}/rpc`, { method: 'POST' });
    if (isOutcome(response)) return response;
    if (response.status !== 200) return outcomeOf(response);
    id = response.headers.get('x-session-id') ?? '';
    return countedIn(withoutHint(id), response.body);
  }

  /** Over the open socket, or a new one: sockets are cut, and the session stays. */
  async function call(): Promise<Outcome> {
    if (socket?.readyState !== WebSocket.OPEN) {
      const connected = await connect();
      if (!(connected instanceof WebSocket)) return connected;
      socket = connected;
    }
    return callOver(socket);
  }

  async function connect(): Promise<WebSocket | Outcome> {
    const opening = new WebSocket(`${url.replace(/^http/, 'ws')}/rpc?session_id=${id}`, {
      handshakeTimeout: HANGING_MS,
    });
    // Later errors cause a close.
    opening.on('error', () => undefined);
    const rejected = once(opening, 'unexpected-response') as Promise<[unknown, IncomingMessage]>;
    return Promise.race([
      once(opening, 'open').then(() => opening),
      rejected.then(async ([, response]) => {
        const rejection = await rejectionOf(response);
        opening.terminate();
        return rejection;
      }),
    ]).catch((error: unknown): Outcome => ({ kind: 'cut', how: messageOf(error) }));
  }

  async function rejectionOf(response: IncomingMessage): Promise<Outcome> {
    const body = await text(response);
    const status = response.statusCode ?? 0;
    const headers = new Headers(
      Object.entries(response.headers).map(([name, value]): [string, string] => [
        name,
        value?.toString() ?? '',
      ]),
    );
    const isProblem = body === 'no such session' || Problem.safeParse(jsonOf(body)).success;
    if (status === 404 && isProblem) return { kind: 'gone', session: withoutHint(id) };
    return outcomeOf({ status, headers, body });
  }

  function callOver(client: WebSocket): Promise<Outcome> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        client.terminate();
        resolve({ kind: 'wrong', what: 'a call over a socket hangs' });
      }, HANGING_MS);
      const resolveWith = (outcome: Outcome): void => {
        clearTimeout(timer);
        client.off('close', onClose);
        client.off('message', onMessage);
        resolve(outcome);
      };
      const onClose = (code: number): void => resolveWith({ kind: 'cut', how: `closed: ${code}` });
      const onMessage = (message: Buffer): void =>
        resolveWith(countedIn(withoutHint(id), message.toString()));
      client.once('close', onClose);
      client.once('message', onMessage);
      client.send('count', () => undefined);
    });
  }

  function leave(): void {
    socket?.terminate();
    socket = undefined;
  }

  return { open, call, leave };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
