import { WebSocket } from 'ws';
import { systemClock } from '../../../../src/clock.ts';
import { webSocketUrlOf, type RoomAddress, type RoomClient } from './client.ts';

const HANDSHAKE_TIMEOUT_MS = 3_000;
const RECONNECT_AFTER_MS = 200;

/** Sends its messages again on each connection, as the server may have lost its memory. */
export function openChatClient(address: RoomAddress): RoomClient {
  const { room, client } = address;
  const sent: string[] = [];
  const received = new Set<string>();
  let socket = connect();

  function connect(): WebSocket {
    const opening = new WebSocket(`${webSocketUrlOf(address)}/chat?client=${client}`, {
      headers: { 'x-session-id': room },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    opening.on('open', () => sent.forEach((text) => opening.send(text)));
    opening.on('message', (data: Buffer) => received.add(data.toString()));
    // 'close' follows.
    opening.on('error', () => undefined);
    opening.once('close', () => {
      void systemClock.sleep(RECONNECT_AFTER_MS).then(() => {
        socket = connect();
      });
    });
    return opening;
  }

  return {
    edit: (text) => {
      sent.push(text);
      if (socket.readyState === WebSocket.OPEN) socket.send(text);
    },
    has: (text) => received.has(text),
  };
}
