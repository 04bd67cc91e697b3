/**
 * The app behind the proxies, on plain sockets: as fast as possible, since it shares a core with
 * the load generator and must not be the bottleneck. It implements just enough HTTP for the
 * candidates: one request at a time, bodies by `content-length`. On a WebSocket it echoes bytes.
 */
import { createServer, type Socket } from 'node:net';
import {
  json,
  responseTo,
  FIRST_EVENT,
  LARGE_PATH,
  SMALL_PATH,
  STREAM_PATH,
  WEBSOCKET_ACCEPT,
  WEBSOCKET_PATH,
  type AppResponse,
} from '../answers.ts';
import { INSPECTED_JSON_PATH, LARGE_JSON, OTHER_JSON_PATH } from '../discovery-answers.ts';
import { listenAndReport } from './listening.ts';
import { createMessageStreams } from './message-streams.ts';

/** As a node:http server would add them. */
const SERVER_HEADERS =
  'date: Fri, 20 Nov 2026 16:00:00 GMT\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\n';

const READY = new Map([
  ...[SMALL_PATH, LARGE_PATH].map((path) => [path, bytesOf(responseTo(path))] as const),
  ...[INSPECTED_JSON_PATH, OTHER_JSON_PATH].map(
    (path) => [path, bytesOf(json(LARGE_JSON))] as const,
  ),
]);
const STREAM_HEAD =
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n' +
  `transfer-encoding: chunked\r\n${SERVER_HEADERS}`;
const streamMessages = createMessageStreams(STREAM_HEAD);
const FIRST_CHUNK = `${FIRST_EVENT.length.toString(16)}\r\n${FIRST_EVENT}\r\n`;
const WEBSOCKET_HEAD =
  'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n' +
  `sec-websocket-accept: ${WEBSOCKET_ACCEPT}\r\n\r\n`;

listenAndReport(createServer({ noDelay: true }, serve));

function serve(socket: Socket): void {
  let head = '';
  let path = '';
  let bodyBytesLeft = 0;
  let isWebSocket = false;

  function response(): void {
    isWebSocket = path === WEBSOCKET_PATH;
    if (isWebSocket) socket.write(WEBSOCKET_HEAD);
    else if (path === STREAM_PATH) socket.write(`${STREAM_HEAD}\r\n${FIRST_CHUNK}`);
    else if (!streamMessages(socket, path))
      socket.write(READY.get(withoutQuery(path)) ?? bytesOf(responseTo(path)));
  }

  socket.on('data', (chunk) => {
    if (isWebSocket) {
      socket.write(chunk);
      return;
    }
    if (bodyBytesLeft > 0) {
      bodyBytesLeft -= chunk.length;
      if (bodyBytesLeft === 0) response();
      return;
    }
    head += chunk.toString('latin1');
    const headEnd = head.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    path = pathOf(head);
    bodyBytesLeft = contentLengthOf(head) - (head.length - headEnd - 4);
    head = '';
    if (bodyBytesLeft === 0) response();
  });
  // A proxy that ends with its streams open resets them.
  socket.on('error', () => socket.destroy());
}

function pathOf(head: string): string {
  const start = head.indexOf(' ') + 1;
  return head.slice(start, head.indexOf(' ', start));
}

function withoutQuery(path: string): string {
  const end = path.indexOf('?');
  return end < 0 ? path : path.slice(0, end);
}

function contentLengthOf(head: string): number {
  if (head.startsWith('GET')) return 0;
  return Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
}

function bytesOf({ statusCode, headers, body }: AppResponse): Buffer {
  let head = `HTTP/1.1 ${statusCode} OK\r\n`;
  for (let i = 0; i + 1 < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.concat([Buffer.from(`${head}${SERVER_HEADERS}\r\n`), body]);
}
