/** Hocuspocus with its defaults; its clients name the document in the query or the path too. */
import { Server } from '@hocuspocus/server';
import type { Door } from '../../apps/door.ts';
import { noteOpened } from '../../apps/journal.ts';

const PATH = '/hocuspocus/';

export function createHocuspocusDoor(): Door {
  const server = new Server({
    quiet: true,
    onLoadDocument: ({ documentName }) => {
      noteOpened(documentName);
      return Promise.resolve();
    },
  });
  return {
    paths: [PATH],
    handle: (request, response) => void server.httpServer.emit('request', request, response),
    upgrade: (request, socket, head) => {
      server.httpServer.emit('upgrade', request, socket, head);
    },
  };
}
