/** The peer service behind a plain node:http server, for tests without a whole sidecar. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { MAX_MESSAGE_BYTES } from '../../src/fleet/messages.ts';
import type { PeerService } from '../../src/fleet/peer-service.ts';

/** Serves the request if its path is one of the service's, and returns whether it was. */
export function servePeers(
  service: PeerService,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const served = service({
    method: request.method ?? '',
    path: request.url ?? '',
    address: request.socket.remoteAddress ?? '',
    readText: () => readText(request),
  });
  served?.then(
    (reply) => {
      if ('body' in reply) {
        response.setHeader('content-type', 'application/json');
        response.end(reply.body);
        return;
      }
      if (reply.status === 405) response.setHeader('allow', 'POST');
      response.writeHead(reply.status, { connection: 'close', 'content-length': 0 }).end();
    },
    () => response.destroy(),
  );
  return served !== undefined;
}

async function readText(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_MESSAGE_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
