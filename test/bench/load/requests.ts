/** Requests over keep-alive connections. */
import type { RequestsJob, Tally } from '../job.ts';
import { openConnection } from './connection.ts';
import { measureTurn } from './turn.ts';

/** Buffer for one read, of any connection: large responses need few reads. */
const READ_BYTES = 262_144;
const DEFAULT_HEADERS = ['user-agent: bench', 'accept: application/json, text/event-stream'];

export function measureRequests(job: RequestsJob): Promise<Tally> {
  const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);
  return measureTurn(job, (index, counts, fail) =>
    openConnection({ job, requests: requestsOf(job, index), readBuffer, counts, fail }),
  );
}

/** The requests of one connection, ready to be written. */
function requestsOf(job: RequestsJob, connection: number): Buffer[] {
  if (job.sessionIds.length === 0) return [Buffer.from(requestText(job, []), 'latin1')];
  const requests: Buffer[] = [];
  for (let i = connection; i < job.sessionIds.length; i += job.connections) {
    const idLine = `mcp-session-id: ${job.sessionIds[i] ?? ''}`;
    requests.push(Buffer.from(requestText(job, [idLine]), 'latin1'));
  }
  if (requests.length === 0) throw new Error('fewer sessions than connections');
  return requests;
}

function requestText(job: RequestsJob, idLines: readonly string[]): string {
  const { method, path, port, bodyBytes, headers = DEFAULT_HEADERS } = job;
  const bodyLines = ['content-type: application/json', `content-length: ${bodyBytes}`];
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: 127.0.0.1:${port}`,
    ...headers,
    ...idLines,
    ...(bodyBytes > 0 ? bodyLines : []),
  ];
  return `${lines.join('\r\n')}\r\n\r\n${bodyBytes > 0 ? jsonOf(bodyBytes) : ''}`;
}

const JSON_START = '{"text":"';
const JSON_END = '"}';

/** JSON of that length. */
function jsonOf(bytes: number): string {
  return `${JSON_START}${'x'.repeat(bytes - JSON_START.length - JSON_END.length)}${JSON_END}`;
}
