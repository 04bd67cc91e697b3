import { randomUUID } from 'node:crypto';
import { openHocuspocusAt } from '../../rooms/clients/hocuspocus.ts';
import type { Target } from '../../support/target.ts';
import { meetInRooms } from './rooms.ts';

/** The URL names the document too: in one room by its query, in the other by its path. */
export async function runHocuspocus({ url }: Target, midway: () => Promise<void>): Promise<void> {
  const inQuery = `in-query-${randomUUID()}`;
  const server = `${url.replace(/^http/, 'ws')}/hocuspocus/`;
  await meetInRooms(
    [inQuery, `in-path-${randomUUID()}`],
    (room) => openHocuspocusAt(`${server}${room === inQuery ? '?room=' : ''}${room}`, room),
    midway,
  );
}
