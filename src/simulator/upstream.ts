/** One try to send a request to one Machine. */
import {
  request as httpRequest,
  type Agent,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http';
import { connect, type Socket } from 'node:net';
import type { ReplayableBody } from './body.ts';

export interface OutgoingRequest {
  readonly method: string;
  readonly target: string;
  readonly rawHeaders: readonly string[];
  /** Undefined for an upgrade, which has none. */
  readonly body: ReplayableBody | undefined;
}

export interface SendOptions {
  readonly port: number;
  readonly agent: Agent;
  /** Aborted when the client has left: ends the request, and the answer too. */
  readonly signal: AbortSignal;
}

export type Attempt =
  | {
      readonly kind: 'answered';
      readonly request: ClientRequest;
      readonly response: IncomingMessage;
    }
  | {
      readonly kind: 'upgraded';
      readonly response: IncomingMessage;
      readonly socket: Socket;
      /** What the Machine has sent after its head already. */
      readonly head: Buffer;
    }
  /** No connection: nothing was sent, so another try can do no harm. */
  | { readonly kind: 'unreachable'; readonly error: Error }
  /** The Machine may have seen the request, and has not answered. */
  | { readonly kind: 'broken'; readonly error: Error };

/** Sending these twice does what sending them once does (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
]);

/** Never rejects: what goes wrong is an {@link Attempt}. */
export function sendToMachine(outgoing: OutgoingRequest, options: SendOptions): Promise<Attempt> {
  return new Promise((resolve) => {
    const request = open(outgoing, options);
    let wasConnected = false;
    request.once('socket', (socket) => {
      const send = (): void => {
        wasConnected = true;
        if (outgoing.body) outgoing.body.sendTo(request);
        else request.end();
      };
      if (socket.connecting) socket.once('connect', send);
      else send();
    });
    request.once('response', (response) => resolve({ kind: 'answered', request, response }));
    request.once('upgrade', (response, socket, head) =>
      resolve({ kind: 'upgraded', response, socket, head }),
    );
    // After the answer has begun, errors show in the answer: then this resolves nothing any more.
    request.on('error', (error) => {
      outgoing.body?.detach(request);
      const isSafe = !wasConnected || isStaleConnection(request, outgoing);
      resolve({ kind: isSafe ? 'unreachable' : 'broken', error });
    });
  });
}

function open(outgoing: OutgoingRequest, options: SendOptions): ClientRequest {
  const common = {
    host: '127.0.0.1',
    port: options.port,
    method: outgoing.method,
    path: outgoing.target,
    headers: outgoing.rawHeaders,
    signal: options.signal,
  };
  if (outgoing.body) return httpRequest({ ...common, agent: options.agent });
  // A tunnel passes half-closes, which node's own sockets answer by closing.
  const createConnection = (): Socket =>
    connect({ host: common.host, port: common.port, allowHalfOpen: true });
  return httpRequest({ ...common, createConnection });
}

/** The Machine had closed the kept-alive connection while the request was on its way to it. */
function isStaleConnection(request: ClientRequest, outgoing: OutgoingRequest): boolean {
  return (
    request.reusedSocket &&
    IDEMPOTENT.has(outgoing.method) &&
    (outgoing.body?.canBeSentAgain ?? true)
  );
}
