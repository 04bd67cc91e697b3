/** Event streams of many messages, each a chunk of its own. */
import type { Socket } from 'node:net';
import {
  AT_ONCE,
  HEADER_STREAM_PATH,
  OTHER_STREAM_PATH,
  REVEALING_STREAM_PATH,
  revealingHeader,
  revealingMessage,
  SILENT_MESSAGES,
  SILENT_STREAM_PATH,
} from '../discovery-answers.ts';

const LAST_CHUNK = '0\r\n\r\n';

const PATHS = [REVEALING_STREAM_PATH, SILENT_STREAM_PATH, OTHER_STREAM_PATH, HEADER_STREAM_PATH];

/** Responds if the path is that of such a stream. `head`: up to the blank line that ends it. */
export function createMessageStreams(head: string): (socket: Socket, target: string) => boolean {
  const chunks = SILENT_MESSAGES.map((message) => Buffer.from(chunkOf(message)));
  const [silent = Buffer.alloc(0)] = chunks;
  const together = Buffer.concat([...chunks.slice(1), Buffer.from(LAST_CHUNK)]);

  return (socket, target) => {
    const [path = ''] = target.split('?');
    if (!PATHS.includes(path)) return false;
    const first =
      path === REVEALING_STREAM_PATH ? Buffer.from(chunkOf(revealingMessage())) : silent;
    socket.write(`${head}${path === HEADER_STREAM_PATH ? revealingHeader() : ''}\r\n`);
    if (target.endsWith(AT_ONCE)) socket.write(Buffer.concat([first, together]));
    else writeEach(socket, [first, ...chunks.slice(1)]);
    return true;
  };
}

/** One in each turn of the event loop. */
function writeEach(socket: Socket, chunks: readonly Buffer[]): void {
  let next = 0;
  const write = (): void => {
    if (socket.destroyed) return;
    const chunk = chunks[next];
    next += 1;
    if (chunk === undefined) socket.write(LAST_CHUNK);
    else if (socket.write(chunk)) setImmediate(write);
    else socket.once('drain', write);
  };
  write();
}

function chunkOf(message: string): string {
  return `${message.length.toString(16)}\r\n${message}\r\n`;
}
