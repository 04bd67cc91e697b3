/** Requests over keep-alive connections. */
import type { RequestsJob, Tally } from '../job.ts';
import { openConnection } from './connection.ts';
import { measureTurn } from './turn.ts';

/** Buffer for one read, of any connection: large responses need few reads. */
const READ_BYTES = 262_144;

export function measureRequests(job: RequestsJob): Promise<Tally> {
  const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);
  return measureTurn(job, (index, counts, fail) =>
    openConnection({ job, requests: requestsOf(job, index), readBuffer, counts, fail }),
  );
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
