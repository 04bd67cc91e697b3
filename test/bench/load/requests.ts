/** Requests over keep-alive connections, counted for a while. */
import { median } from '../median.ts';
import type { RequestsJob, Tally } from '../job.ts';
import { openConnection, type Connection, type Counts } from './connection.ts';
import { cpuMicrosOf } from './cpu.ts';

export async function measureRequests(job: RequestsJob): Promise<Tally> {
  const counts: Counts = { requests: 0, bytes: 0, latenciesMicros: [] };
  let fail: (error: Error) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  const connections: Connection[] = [];
  for (let i = 0; i < job.connections; i += 1) {
    connections.push(openConnection(job, requestsOf(job, i), counts, fail));
  }
  try {
    await Promise.race([failed, pause(job.warmUpMs)]);
    return await count(job, counts, failed);
  } finally {
    for (const connection of connections) connection.close();
  }
}

async function count(job: RequestsJob, counts: Counts, failed: Promise<never>): Promise<Tally> {
  counts.requests = 0;
  counts.bytes = 0;
  counts.latenciesMicros.length = 0;
  const cpuBefore = cpuMicrosOf(job.pid);
  const startedAt = performance.now();
  await Promise.race([failed, pause(job.turnMs)]);
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpuAfter = cpuMicrosOf(job.pid);
  if (counts.requests === 0) throw new Error('not one answer came in time');
  return {
    requests: counts.requests,
    bytes: counts.bytes,
    seconds,
    medianLatencyMicros: median(counts.latenciesMicros),
    cpuMicros: cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore,
  };
}

/** The requests of one connection, ready to be written. */
function requestsOf(job: RequestsJob, connection: number): Buffer[] {
  const requests: Buffer[] = [];
  for (let i = connection; i < job.sessionIds.length; i += job.connections) {
    requests.push(Buffer.from(requestText(job, job.sessionIds[i] ?? ''), 'latin1'));
  }
  if (requests.length === 0) throw new Error('fewer sessions than connections');
  return requests;
}

function requestText({ method, path, port, bodyBytes }: RequestsJob, sessionId: string): string {
  const body =
    bodyBytes > 0 ? `content-type: application/json\r\ncontent-length: ${bodyBytes}\r\n` : '';
  return (
    `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nuser-agent: bench\r\n` +
    `accept: application/json, text/event-stream\r\nmcp-session-id: ${sessionId}\r\n` +
    `${body}\r\n${'x'.repeat(bodyBytes)}`
  );
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
