/** The common interface of the clients of all room servers. They reconnect by themselves. */
import { WebSocket } from 'ws';

export interface RoomClient {
  /** Edits that it could not send are sent when it is connected again. */
  edit(text: string): void;
  /** Whether it has this edit, its own or one that it received from the server. */
  has(text: string): boolean;
}

export interface RoomAddress {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly room: string;
  /** Sent to the server in the query, for its journal. */
  readonly client: string;
}

/** How long a user would wait before reloading the page, shortened for the test. */
const HANDSHAKE_TIMEOUT_MS = 3_000;

/** Aborts a connection without a response, because the library does not. */
export class WebSocketWithTimeout extends WebSocket {
  constructor(address: string | URL, protocols?: string | string[]) {
    super(address, protocols, { handshakeTimeout: HANDSHAKE_TIMEOUT_MS });
  }
}

export function webSocketUrlOf({ url }: RoomAddress): string {
  return url.replace(/^http/, 'ws');
}
