/** WebSockets that send one message after the other, each as soon as the last was echoed. */
import { connect } from 'node:net';
import { WEBSOCKET_KEY } from '../answers.ts';
import type { MessagesJob, Tally } from '../job.ts';
import { measureTurn, type Connection, type Counts } from './turn.ts';

const HEAD_END = '\r\n\r\n';
const MICROS_PER_MS = 1_000;

export function measureMessages(job: MessagesJob): Promise<Tally> {
  const frame = maskedFrame(job.messageBytes);
  return measureTurn(job, (index, counts, fail) =>
    openWebSocket(handshakeOf(job, index), frame, { port: job.port, counts, fail }),
  );
}

interface SocketOptions {
  readonly port: number;
  readonly counts: Counts;
  readonly fail: (error: Error) => void;
}

/** The length of an echo is checked, its bytes are not: tests do that. */
function openWebSocket(
  handshake: string,
  frame: Buffer,
  { port, counts, fail }: SocketOptions,
): Connection {
  let head = '';
  let isOpen = false;
  let isClosed = false;
  let sentAt = 0;
  let bytesLeft = 0;
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.write(handshake);
  socket.on('data', (chunk) => {
    if (isOpen) takeEcho(chunk.length);
    else takeHead(chunk);
  });
  socket.on('error', abort);
  socket.on('close', () => abort(new Error('the candidate has closed a WebSocket')));

  function takeHead(chunk: Buffer): void {
    head += chunk.toString('latin1');
    if (!head.endsWith(HEAD_END)) return;
    if (!head.startsWith('HTTP/1.1 101 ')) abort(new Error(`no WebSocket: ${head.slice(0, 300)}`));
    isOpen = true;
    send();
  }

  function takeEcho(length: number): void {
    counts.bytes += length;
    bytesLeft -= length;
    if (bytesLeft > 0) return;
    if (bytesLeft < 0) abort(new Error('received more than was sent'));
    counts.requests += 1;
    counts.latenciesMicros.push((performance.now() - sentAt) * MICROS_PER_MS);
    send();
  }

  function send(): void {
    if (isClosed) return;
    sentAt = performance.now();
    bytesLeft = frame.length;
    socket.write(frame);
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

function handshakeOf({ port, path, sessionIds }: MessagesJob, index: number): string {
  return (
    `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nuser-agent: bench\r\n` +
    'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n' +
    `sec-websocket-key: ${WEBSOCKET_KEY}\r\n` +
    `mcp-session-id: ${sessionIds[index] ?? ''}\r\n\r\n`
  );
}

const TEXT_FRAME = 0x81;
const IS_MASKED = 0x80;
const MASK = [0x12, 0x34, 0x56, 0x78];
/** Longer payloads have a longer head. */
const MAX_PAYLOAD_BYTES = 125;

/** https://www.rfc-editor.org/rfc/rfc6455#section-5.2 */
function maskedFrame(payloadBytes: number): Buffer {
  if (payloadBytes > MAX_PAYLOAD_BYTES) throw new Error('messages must be small');
  const letter = 'a'.charCodeAt(0);
  const payload = Array.from({ length: payloadBytes }, (_, i) => letter ^ (MASK[i % 4] ?? 0));
  return Buffer.from([TEXT_FRAME, IS_MASKED | payloadBytes, ...MASK, ...payload]);
}
