/** Event streams that are opened, kept, and closed together. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { StreamsJob } from '../job.ts';

export interface Streams {
  /** Resolves when each stream has brought its first event. */
  open(job: StreamsJob): Promise<void>;
  close(): Promise<void>;
}

/** Opened at once; more would overflow the candidates' queues of new connections. */
const BATCH = 50;

export function createStreams(): Streams {
  let sockets: Socket[] = [];

  async function open(job: StreamsJob): Promise<void> {
    for (let i = 0; i < job.sessionIds.length; i += BATCH) {
      const batch = job.sessionIds.slice(i, i + BATCH);
      sockets.push(...(await Promise.all(batch.map((id) => openStream(job, id)))));
    }
  }

  async function close(): Promise<void> {
    const closed = sockets.map((socket) => once(socket.destroy(), 'close'));
    sockets = [];
    await Promise.all(closed);
  }

  return { open, close };
}

async function openStream({ port, path }: StreamsJob, sessionId: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(
    `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\naccept: text/event-stream\r\n` +
      `mcp-session-id: ${sessionId}\r\n\r\n`,
  );
  let answer = '';
  while (!answer.includes(': hello')) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    answer += chunk.toString();
    if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`no stream: ${answer.slice(0, 200)}`);
  }
  socket.resume();
  return socket;
}
