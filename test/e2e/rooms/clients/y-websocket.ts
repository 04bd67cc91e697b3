import { WebsocketProvider } from 'y-websocket';
import { Doc } from 'yjs';
import {
  WebSocketWithTimeout,
  webSocketUrlOf,
  type RoomAddress,
  type RoomClient,
} from './client.ts';
import { editsOf } from './shared-list.ts';

/** Longest wait before it tries again, in ms; by default 2500. */
const MAX_BACKOFF_MS = 1_000;

export function openYWebSocketClient(address: RoomAddress): RoomClient {
  const document = new Doc();
  new WebsocketProvider(webSocketUrlOf(address), address.room, document, {
    params: { client: address.client },
    WebSocketPolyfill: WebSocketWithTimeout as unknown as typeof WebSocket,
    maxBackoffTime: MAX_BACKOFF_MS,
    // All clients of this test are in one process, and would exchange edits without the server.
    disableBc: true,
  });
  return editsOf(document);
}
