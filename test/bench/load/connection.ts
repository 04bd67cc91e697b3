/**
 * One keep-alive connection of the load generator. It parses as little as possible, since it shares
 * its CPU time with the app: the first response in full, by `content-length`; after that, a response
 * of the same length that begins with the same status line counts as read. A chunked one, whose length
 * a proxy may change, ends with its last chunk.
 *
 *   sending --whole response--> sending (the next request) ... --close()--> closed
 *      '------ anything else ------> failed
 */
import { connect } from 'node:net';
import type { RequestsJob } from '../job.ts';
import type { Connection, Counts } from './turn.ts';

export interface ConnectionOptions {
  readonly job: RequestsJob;
  /** Sent one after the other, repeatedly. */
  readonly requests: readonly Buffer[];
  /** May be shared with other connections: it keeps no data between reads. */
  readonly readBuffer: Buffer;
  readonly counts: Counts;
  readonly fail: (error: Error) => void;
}

/** A response's head must fit into that much of a read. */
const HEAD_BYTES = 4_096;
const HEAD_END = '\r\n\r\n';
/** No chunk of the app's ends like that. */
const LAST_CHUNK = Buffer.from('\r\n0\r\n\r\n');
const MICROS_PER_MS = 1_000;

export function openConnection(options: ConnectionOptions): Connection {
  const { job, requests, readBuffer, counts, fail } = options;
  const statusLine = Buffer.from(job.expects.statusLine, 'latin1');
  let next = 0;
  let sentAt = 0;
  let isClosed = false;
  let head = '';
  /** Length of a whole response, once one was parsed. */
  let responseBytes = 0;
  let bytesLeft = 0;
  /** The end of a chunked response so far. */
  let tail = Buffer.alloc(0);
  let isChunked = false;

  const onread = {
    buffer: readBuffer,
    callback: (length: number): boolean => {
      counts.bytes += length;
      if (isChunked) continueChunks(length);
      else if (bytesLeft > 0) continueResponse(length);
      else beginResponse(length);
      return true;
    },
  };
  const socket = connect({ port: job.port, host: '127.0.0.1', noDelay: true, onread });
  socket.on('connect', send);
  socket.on('error', abort);
  socket.on('close', () => abort(new Error('the candidate has closed a connection')));

  function send(): void {
    sentAt = performance.now();
    socket.write(requests[next] ?? '');
    next = next + 1 === requests.length ? 0 : next + 1;
  }

  function beginResponse(length: number): void {
    if (head === '' && length <= responseBytes && startsWith(readBuffer, statusLine)) {
      bytesLeft = responseBytes;
      continueResponse(length);
      return;
    }
    const headBytesBefore = head.length;
    head += readBuffer.toString('latin1', 0, Math.min(length, HEAD_BYTES));
    const headEnd = head.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const problem = problemWith(head.slice(0, headEnd + 2), job);
    if (problem !== undefined) abort(new Error(problem));
    isChunked = /\r\ntransfer-encoding: *chunked\r\n/i.test(head);
    if (isChunked) {
      head = '';
      continueChunks(length);
      return;
    }
    responseBytes = headEnd + HEAD_END.length + contentLengthOf(head);
    bytesLeft = responseBytes - headBytesBefore;
    head = '';
    continueResponse(length);
  }

  function continueResponse(length: number): void {
    bytesLeft -= length;
    if (bytesLeft > 0) return;
    if (bytesLeft < 0) abort(new Error('received more than one response'));
    endResponse();
  }

  function continueChunks(length: number): void {
    const end = readBuffer.subarray(Math.max(0, length - LAST_CHUNK.length), length);
    tail = Buffer.concat([tail, end]).subarray(-LAST_CHUNK.length);
    if (!tail.equals(LAST_CHUNK)) return;
    isChunked = false;
    tail = Buffer.alloc(0);
    endResponse();
  }

  function endResponse(): void {
    counts.requests += 1;
    counts.latenciesMicros.push((performance.now() - sentAt) * MICROS_PER_MS);
    if (!isClosed) send();
  }

  function abort(error: Error): void {
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

function startsWith(bytes: Buffer, start: Buffer): boolean {
  for (let i = 0; i < start.length; i += 1) if (bytes[i] !== start[i]) return false;
  return true;
}

function problemWith(head: string, { expects }: RequestsJob): string | undefined {
  if (head.startsWith(expects.statusLine) && head.toLowerCase().includes(expects.text)) {
    return undefined;
  }
  return `unexpected response: ${head.slice(0, 300)}`;
}

function contentLengthOf(head: string): number {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (length === undefined) throw new Error('a response without content-length');
  return Number(length);
}
