/**
 * Clients of one room, which reconnect by themselves. On several Machines they would not receive
 * each other's edits.
 */
import type { RoomClient } from '../../rooms/clients/client.ts';
import { until } from '../../support/until.ts';

const CLIENTS_OF_EACH_HALF = 4;

/** All rooms are tested at the same time, before and after the restart. */
export async function meetInRooms(
  rooms: readonly string[],
  open: (room: string, client: string) => RoomClient,
  midway: () => Promise<void>,
): Promise<void> {
  const members = rooms.map(() => new Map<string, RoomClient>());
  const enter = async (half: string): Promise<void> => {
    const all = rooms.map((room, index) => {
      const here = members[index] ?? new Map<string, RoomClient>();
      for (let number = 1; number <= CLIENTS_OF_EACH_HALF; number += 1) {
        const client = `${half}.${number}`;
        here.set(client, open(room, client));
      }
      return exchangeEdits(here, half);
    });
    await Promise.all(all);
  };
  await enter('first');
  await midway();
  await enter('second');
}

/** Every member makes an edit, and receives those of all others. */
async function exchangeEdits(
  members: ReadonlyMap<string, RoomClient>,
  edit: string,
): Promise<void> {
  const editBy = (author: string): string => `${edit} edit by ${author}`;
  for (const [author, member] of members) member.edit(editBy(author));
  await until(() =>
    [...members].flatMap(([client, member]) =>
      [...members.keys()]
        .filter((author) => !member.has(editBy(author)))
        .map((author) => `${client} misses the ${editBy(author)}`),
    ),
  );
}
