/**
 * Runs in its own thread: the clients of all rooms. The edge and the private network of the
 * simulation are in the main thread, and must not be slowed down.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { openChatClient } from './clients/chat.ts';
import type { RoomAddress, RoomClient } from './clients/client.ts';
import { openHocuspocusClient } from './clients/hocuspocus.ts';
import { openYWebSocketClient } from './clients/y-websocket.ts';

const OPENERS = {
  'y-websocket': openYWebSocketClient,
  hocuspocus: openHocuspocusClient,
  chat: openChatClient,
} as const satisfies Record<string, (address: RoomAddress) => RoomClient>;

export type ServerName = keyof typeof OPENERS;

export interface ClientPlan {
  readonly server: ServerName;
  readonly url: string;
}

/** All clients are for these rooms. */
export type Request = {
  readonly id: number;
  readonly rooms: readonly string[];
} & (
  | { readonly kind: 'enter'; readonly clients: number }
  /** Each client makes one edit that no other makes. */
  | { readonly kind: 'edit'; readonly name: string }
  /** Edits that have not reached a client. */
  | { readonly kind: 'missing'; readonly name: string }
);

export interface Response {
  readonly id: number;
  readonly missing: readonly string[];
}

const { server, url } = workerData as ClientPlan;
const guests = new Map<string, Map<string, RoomClient>>();
// Each client of y-websocket listens for the end of the process.
process.setMaxListeners(0);

parentPort?.on('message', (request: Request) => {
  const missing = perform(request);
  parentPort?.postMessage({ id: request.id, missing } satisfies Response);
});

function perform(request: Request): string[] {
  const { rooms } = request;
  switch (request.kind) {
    case 'enter':
      for (const room of rooms) guests.set(room, enter(room, request.clients));
      return [];
    case 'edit':
      for (const [client, guest] of rooms.flatMap(guestsIn)) guest.edit(editOf(client, request));
      return [];
    case 'missing':
      return rooms.flatMap((room) => missingIn(room, request));
  }
}

/** At the same moment: nothing is awaited. */
function enter(room: string, clients: number): Map<string, RoomClient> {
  const names = Array.from({ length: clients }, (_, index) => `${room}.${index}`);
  return new Map(names.map((client) => [client, OPENERS[server]({ url, room, client })]));
}

function guestsIn(room: string): [string, RoomClient][] {
  return [...(guests.get(room) ?? [])];
}

function missingIn(room: string, request: { readonly name: string }): string[] {
  const members = guestsIn(room);
  return members.flatMap(([client, guest]) =>
    members
      .filter(([author]) => !guest.has(editOf(author, request)))
      .map(([author]) => `${client} misses what ${author} wrote`),
  );
}

function editOf(client: string, { name }: { readonly name: string }): string {
  return `${name} by ${client}`;
}
