/** Sends a request to one Machine, and its response to the client. */
import {
  request as httpRequest,
  type Agent,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect, type Socket } from 'node:net';
import type { ReplayableBody } from './body.ts';
import { headerPairs, withoutHopByHop } from './edge-headers.ts';
import { createGate, type Line, joinSockets } from './line.ts';

export interface OutgoingRequest {
  readonly method: string;
  readonly target: string;
  readonly rawHeaders: readonly string[];
  /** Undefined for an upgrade, which has none. */
  readonly body: ReplayableBody | undefined;
}

interface SendOptions {
  readonly port: number;
  readonly agent: Agent;
  /** Aborted when the client has disconnected: ends the request, and the response too. */
  readonly signal: AbortSignal;
}

export type DeliveryAttempt =
  | {
      readonly kind: 'responded';
      readonly request: ClientRequest;
      readonly response: IncomingMessage;
    }
  | {
      readonly kind: 'upgraded';
      readonly response: IncomingMessage;
      readonly socket: Socket;
      /** Bytes that the Machine has already sent after its head. */
      readonly head: Buffer;
    }
  /** No connection: nothing was sent, so a retry is safe. */
  | { readonly kind: 'unreachable'; readonly error: Error }
  /** The Machine may have received the request, but has not responded. */
  | { readonly kind: 'broken'; readonly error: Error };

/** Sending these twice has the same effect as sending them once (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
]);

/** Never rejects: a failure is a {@link DeliveryAttempt} too. */
export function sendToMachine(
  outgoing: OutgoingRequest,
  options: SendOptions,
): Promise<DeliveryAttempt> {
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
    request.once('response', (response) => resolve({ kind: 'responded', request, response }));
    request.once('upgrade', (response, socket, head) =>
      resolve({ kind: 'upgraded', response, socket, head }),
    );
    // After the response has started, errors appear there, and this resolves nothing.
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
  // A tunnel passes half-closes on, but node's default sockets respond to them by closing.
  const createConnection = (): Socket =>
    connect({ host: common.host, port: common.port, allowHalfOpen: true, noDelay: true });
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

/**
 * Passes the response on as it arrives: status, headers in order and case, body, trailers. A response
 * that breaks off at the Machine breaks off at the client.
 */
export function pipeResponse(
  request: ClientRequest,
  response: IncomingMessage,
  client: ServerResponse,
  { addedHeaders, line }: { readonly addedHeaders: readonly string[]; readonly line: Line },
): void {
  const headers = [...withoutHopByHop(response.rawHeaders), ...addedHeaders];
  client.sendDate = false;
  client.writeHead(response.statusCode ?? 502, response.statusMessage, headers);
  // An empty write sends the head at once, and as latin-1, which `flushHeaders` would not.
  client.write('', 'latin1');
  const arriving = response.pipe(createGate(line));
  arriving.on('data', (chunk: Buffer) => {
    if (!client.write(chunk)) arriving.pause();
  });
  client.on('drain', () => arriving.resume());
  arriving.on('end', () => {
    if (!response.complete) {
      client.destroy();
      return;
    }
    if (response.rawTrailers.length > 0) client.addTrailers(headerPairs(response.rawTrailers));
    client.end();
  });
  // 'close', which always follows, handles the error.
  response.on('error', () => undefined);
  const end = (): void => {
    // Bytes from before the break still arrive.
    if (!response.complete) arriving.end();
    // The response came before the request was read: the connection can't be reused.
    if (!request.writableFinished) request.destroy();
  };
  // On a slow line the response may have broken off before its head arrived.
  if (response.closed) end();
  else response.once('close', end);
}

/** Passes on the response to an accepted upgrade, and then the bytes of both sides. */
export function pipeUpgrade(
  response: IncomingMessage,
  machine: { readonly socket: Socket; readonly head: Buffer },
  client: { readonly socket: Socket; readonly head: Buffer },
  { addedHeaders, line }: { readonly addedHeaders: readonly string[]; readonly line: Line },
): void {
  const lines = [`HTTP/1.1 ${response.statusCode ?? 101} ${response.statusMessage ?? ''}`];
  const headers = [...response.rawHeaders, ...addedHeaders];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    lines.push(`${headers[i] ?? ''}: ${headers[i + 1] ?? ''}`);
  }
  client.socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  client.socket.write(machine.head);
  machine.socket.write(client.head);
  joinSockets(client.socket, machine.socket, { there: line, back: line });
}
