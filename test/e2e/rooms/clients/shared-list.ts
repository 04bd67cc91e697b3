import type { Doc } from 'yjs';
import type { RoomClient } from './client.ts';

/** The edits of a document: items of a list that its clients share. */
export function editsOf(document: Doc): RoomClient {
  const list = document.getArray<string>('edits');
  return {
    edit: (text) => list.push([text]),
    has: (text) => list.toArray().includes(text),
  };
}
