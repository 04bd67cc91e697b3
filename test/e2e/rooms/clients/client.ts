/** What the clients of all room servers have in common. They reconnect by themselves. */
import { WebSocket } from 'ws';

export interface RoomClient {
  /** What it has not been able to tell yet it tells when it is connected again. */
  edit(text: string): void;
  /** Whether it has this edit, its own or one that it got from the server. */
  has(text: string): boolean;
}

export interface RoomAddress {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly room: string;
  /** Told to the server in the query, for its journal. */
  readonly client: string;
}

/** As long as a user would wait before loading the page again, but tests are in a hurry. */
const HANDSHAKE_TIMEOUT_MS = 3_000;

/** Gives up a connection that gets no answer, as otherwise nobody would. */
export class ImpatientWebSocket extends WebSocket {
  constructor(address: string | URL, protocols?: string | string[]) {
    super(address, protocols, { handshakeTimeout: HANDSHAKE_TIMEOUT_MS });
  }
}

export function webSocketUrlOf({ url }: RoomAddress): string {
  return url.replace(/^http/, 'ws');
}
