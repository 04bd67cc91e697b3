/** A Machine's answer on its way to the client. */
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { headerPairs, withoutHopByHop } from './edge-headers.ts';
import { createGate, type Line } from './line.ts';
import { splice } from './tunnel.ts';

/**
 * Passes the answer on as it comes over the line: status, headers in order and case, body, trailers.
 * What breaks off at the Machine breaks off at the client.
 */
export function relayAnswer(
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
  // What has gone wrong shows in 'close', which always follows.
  response.on('error', () => undefined);
  const end = (): void => {
    // What has come before it broke off still arrives.
    if (!response.complete) arriving.end();
    // An answer given before the request was read: the connection is of no more use.
    if (!request.writableFinished) request.destroy();
  };
  // On a slow line it may have broken off before its head arrived.
  if (response.closed) end();
  else response.once('close', end);
}

/** Passes on the answer to an upgrade that was accepted, and then the bytes of both sides. */
export function relayUpgrade(
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
  splice(client.socket, machine.socket, { there: line, back: line });
}
