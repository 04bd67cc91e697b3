/**
 * An app that takes WebSockets, in no protocol that another probe knows. A connection is a whole session, so there is
 * none to open: which clients have to meet, as in a room, only the user knows (`own-request.ts`).
 */
import type { ProbeClient } from './http-client.ts';
import type { Opening, Probe } from './probe.ts';
import { SWITCHING_PROTOCOLS, WEBSOCKET } from './websocket.ts';

export function createWebSocketProbe(path: string): Probe {
  return {
    preset: undefined,
    where: `GET ${path} (WebSocket)`,
    open: (client) => open(client, path),
  };
}

async function open(client: ProbeClient, path: string): Promise<Opening> {
  const exchange = await client.send({ method: WEBSOCKET, target: path });
  const isAccepted = exchange.kind === 'response' && exchange.status === SWITCHING_PROTOCOLS;
  return isAccepted ? { kind: 'websocket', path } : { kind: 'other', exchange };
}
