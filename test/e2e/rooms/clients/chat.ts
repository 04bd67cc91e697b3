import { WebSocket } from 'ws';
import { systemClock } from '../../../../src/clock.ts';
import { webSocketUrlOf, type RoomAddress, type RoomClient } from './client.ts';

const HANDSHAKE_TIMEOUT_MS = 3_000;
const RECONNECT_AFTER_MS = 200;

/** Says again on each connection what it has said, as the server may have lost its memory. */
export function openChatClient(address: RoomAddress): RoomClient {
  const { room, client } = address;
  const said: string[] = [];
  const heard = new Set<string>();
  let socket = connect();

  function connect(): WebSocket {
    const opening = new WebSocket(`${webSocketUrlOf(address)}/chat?client=${client}`, {
      headers: { 'x-session-id': room },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    opening.on('open', () => said.forEach((text) => opening.send(text)));
    opening.on('message', (data: Buffer) => heard.add(data.toString()));
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
      said.push(text);
      if (socket.readyState === WebSocket.OPEN) socket.send(text);
    },
    has: (text) => heard.has(text),
  };
}
