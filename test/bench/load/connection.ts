/**
 * One keep-alive connection of the load generator. It parses as little as it can, since its time is
 * taken from the app's: the first answer in full, by `content-length`; after that, an answer of the
 * same length that begins with the same status line is taken as read.
 *
 *   sending --whole answer--> sending (the next request) ... --close()--> closed
 *      '------ anything else ------> failed
 */
import { connect } from 'node:net';
import type { RequestsJob } from '../job.ts';

/** Shared by the connections of one job. */
export interface Counts {
  requests: number;
  bytes: number;
  readonly latenciesMicros: number[];
}

export interface Connection {
  close(): void;
}

/** Room for one read: large answers come in few of them. */
const READ_BYTES = 262_144;
/** An answer's head is looked for in that much of a read. */
const HEAD_BYTES = 4_096;
const HEAD_END = '\r\n\r\n';

export function openConnection(
  job: RequestsJob,
  requests: readonly Buffer[],
  counts: Counts,
  fail: (error: Error) => void,
): Connection {
  const { statusLine } = job.expects;
  const takesTimes = job.connections === 1;
  let next = 0;
  let sentAt = 0;
  let isClosed = false;
  let head = '';
  /** Length of a whole answer, once one was parsed. */
  let answerBytes = 0;
  let bytesLeft = 0;

  const onread = {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback: (length: number, buffer: Uint8Array): boolean => {
      counts.bytes += length;
      if (bytesLeft > 0) continueAnswer(length);
      else
        beginAnswer((buffer as Buffer).toString('latin1', 0, Math.min(length, HEAD_BYTES)), length);
      return true;
    },
  };
  const socket = connect({ port: job.port, host: '127.0.0.1', noDelay: true, onread });
  socket.on('connect', send);
  socket.on('error', giveUp);
  socket.on('close', () => giveUp(new Error('the candidate has closed a connection')));

  function send(): void {
    if (takesTimes) sentAt = performance.now();
    socket.write(requests[next] ?? '');
    next = next + 1 === requests.length ? 0 : next + 1;
  }

  function beginAnswer(text: string, length: number): void {
    if (head === '' && length <= answerBytes && text.startsWith(statusLine)) {
      bytesLeft = answerBytes;
      continueAnswer(length);
      return;
    }
    head += text;
    const headEnd = head.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const problem = problemWith(head.slice(0, headEnd + 2), job);
    if (problem !== undefined) giveUp(new Error(problem));
    const headBytesBefore = head.length - text.length;
    answerBytes = headEnd + HEAD_END.length + contentLengthOf(head);
    bytesLeft = answerBytes - headBytesBefore;
    head = '';
    continueAnswer(length);
  }

  function continueAnswer(length: number): void {
    bytesLeft -= length;
    if (bytesLeft > 0) return;
    if (bytesLeft < 0) giveUp(new Error('more came than one answer'));
    counts.requests += 1;
    if (takesTimes) counts.latenciesMicros.push((performance.now() - sentAt) * 1_000);
    if (!isClosed) send();
  }

  function giveUp(error: Error): void {
    if (isClosed) return;
    close();
    fail(error);
  }

  function close(): void {
    isClosed = true;
    socket.destroy();
  }

  return { close };
}

function problemWith(head: string, { expects }: RequestsJob): string | undefined {
  if (head.startsWith(expects.statusLine) && head.toLowerCase().includes(expects.text)) {
    return undefined;
  }
  return `an answer that was not expected: ${head.slice(0, 300)}`;
}

function contentLengthOf(head: string): number {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (length === undefined) throw new Error('an answer without content-length');
  return Number(length);
}
