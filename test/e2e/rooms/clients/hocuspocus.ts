import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider';
import { Doc } from 'yjs';
import {
  WebSocketWithTimeout,
  webSocketUrlOf,
  type RoomAddress,
  type RoomClient,
} from './client.ts';
import { editsOf } from './shared-list.ts';

/** Shortest and longest wait before it tries again, in ms; by default 1000 and 30,000. */
const MIN_DELAY_MS = 100;
const MAX_DELAY_MS = 1_000;

/** The protocol names the document in a message, too late for a proxy: the query names it too. */
export function openHocuspocusClient(address: RoomAddress): RoomClient {
  const { room, client } = address;
  return openHocuspocusAt(`${webSocketUrlOf(address)}/?doc=${room}&client=${client}`, room);
}

/** With any URL. */
export function openHocuspocusAt(url: string, room: string): RoomClient {
  const document = new Doc();
  const websocketProvider = new HocuspocusProviderWebsocket({
    url,
    WebSocketPolyfill: WebSocketWithTimeout,
    delay: MIN_DELAY_MS,
    minDelay: MIN_DELAY_MS,
    maxDelay: MAX_DELAY_MS,
  });
  new HocuspocusProvider({ websocketProvider, name: room, document }).attach();
  return editsOf(document);
}
