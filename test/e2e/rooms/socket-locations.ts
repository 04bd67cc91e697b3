/** The Machines of a room's sockets, as reported by the room servers. */
import type { MachineId } from '../../../src/session.ts';
import { parseRoomLine, type RoomEntry, type Socket } from './apps/room-journal.ts';

export interface SocketLocations {
  noteLine(line: string): void;
  /** The Machines that have a socket of a client of this room. */
  machinesOf(room: string): readonly string[];
  /** The rooms whose clients are on several Machines, with the Machine of each. */
  scattered(rooms: readonly string[], clients: number): string[];
  /** The rooms with a socket on this Machine. */
  roomsOn(machine: MachineId, rooms: readonly string[]): string[];
  /** How often a socket has been opened. */
  joinCount(): number;
}

export function createSocketLocations(): SocketLocations {
  const open = new Map<string, Socket>();
  let joins = 0;

  function note(entry: RoomEntry): void {
    switch (entry.kind) {
      case 'started':
        for (const { id, machine } of [...open.values()]) {
          if (machine === entry.machine) open.delete(id);
        }
        return;
      case 'joined':
        joins += 1;
        open.set(entry.socket.id, entry.socket);
        return;
      case 'left':
        open.delete(entry.socket.id);
    }
  }

  function socketsIn(name: string): Socket[] {
    return [...open.values()].filter(({ room }) => room === name);
  }

  function machinesOf(room: string): string[] {
    return [...new Set(socketsIn(room).map(({ machine }) => machine))];
  }

  function isTogether(room: string, clients: number): boolean {
    const present = new Set(socketsIn(room).map(({ client }) => client));
    return present.size === clients && machinesOf(room).length === 1;
  }

  return {
    noteLine: (line) => {
      const entry = parseRoomLine(line);
      if (entry) note(entry);
    },
    machinesOf,
    scattered: (rooms, clients) =>
      rooms
        .filter((room) => !isTogether(room, clients))
        .map((room) => `${room} has ${tableOf(socketsIn(room))}`),
    roomsOn: (machine, rooms) => rooms.filter((room) => machinesOf(room).includes(machine)),
    joinCount: () => joins,
  };
}

function tableOf(sockets: readonly Socket[]): string {
  return sockets.map(({ client, machine }) => `${client} on ${machine}`).join(', ') || 'nobody';
}
