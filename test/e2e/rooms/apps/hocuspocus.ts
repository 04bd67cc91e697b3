/** Hocuspocus with its defaults; its clients name the document in the query too. */
import { Server } from '@hocuspocus/server';
import { noteJoined, noteStarted } from './room-journal.ts';

const noteLeftBy = new Map<string, () => void>();

const server = new Server({
  port: Number(process.env.PORT),
  address: '127.0.0.1',
  quiet: true,
  connected: ({ documentName, requestParameters, socketId }) => {
    noteLeftBy.set(socketId, noteJoined(documentName, requestParameters.get('client') ?? ''));
    return Promise.resolve();
  },
  onDisconnect: ({ socketId }) => {
    noteLeftBy.get(socketId)?.();
    noteLeftBy.delete(socketId);
    return Promise.resolve();
  },
});

noteStarted();
await server.listen();
