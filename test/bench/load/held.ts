/** Connections that are opened, kept, and closed together. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { HoldJob } from '../job.ts';

interface HeldConnections {
  /** Resolves when each connection has received what it expects. */
  hold(job: HoldJob): Promise<void>;
  /** Throws if the candidate has closed one. */
  check(): void;
  release(): Promise<void>;
}

/** Opened at the same time; more would overflow the candidates' queues of new connections. */
const BATCH = 50;

export function createHeldConnections(): HeldConnections {
  const sockets: Socket[] = [];

  async function hold(job: HoldJob): Promise<void> {
    for (let i = 0; i < job.sessionIds.length; i += BATCH) {
      const batch = job.sessionIds.slice(i, i + BATCH);
      sockets.push(...(await Promise.all(batch.map((id) => openOne(job, id)))));
    }
  }

  function check(): void {
    const closed = sockets.filter((socket) => socket.closed).length;
    if (closed > 0) throw new Error(`the candidate has closed ${closed} connections`);
  }

  async function release(): Promise<void> {
    const open = sockets.splice(0).filter(({ closed }) => !closed);
    await Promise.all(open.map((socket) => once(socket.destroy(), 'close')));
  }

  return { hold, check, release };
}

function openOne({ port, path, expects }: HoldJob, sessionId: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(
    `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\naccept: text/event-stream\r\n` +
      `mcp-session-id: ${sessionId}\r\n\r\n`,
  );
  let response = '';
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`closed after: ${response.slice(0, 200)}`)));
    socket.on('data', (chunk) => {
      response += chunk.toString();
      if (!response.startsWith('HTTP/1.1 200'))
        reject(new Error(`refused: ${response.slice(0, 200)}`));
      if (response.includes(expects)) resolve(socket);
    });
  });
}
