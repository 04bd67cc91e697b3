/** What the app answers, and the floor with it: the same bytes, whoever sends them. */
import { randomUUID } from 'node:crypto';

export interface Answer {
  readonly statusCode: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

export const SMALL_PATH = '/small';
export const LARGE_PATH = '/large';
export const STREAM_PATH = '/stream';
/** Opens a session: the answer carries its id. */
export const OPEN_PATH = '/open';
/** What the floor answers as the sidecar answers a request for another Machine. */
export const REPLAY_PATH = '/replay';

export const SESSION_HEADER = 'mcp-session-id';
export const LARGE_BYTES = 1_048_576;

const SMALL = json(Buffer.alloc(100, 'a'));
const LARGE = json(Buffer.alloc(LARGE_BYTES, 'b'));
const REPLAY: Answer = {
  statusCode: 307,
  headers: ['fly-replay', 'instance=m2;timeout=10s;fallback=prefer_self', 'content-length', '0'],
  body: Buffer.alloc(0),
};

export const FIRST_EVENT = Buffer.from(': hello\n\n');
export const STREAM_HEADERS = ['content-type', 'text/event-stream', 'cache-control', 'no-cache'];

export function answerTo(path: string): Answer {
  switch (path) {
    case LARGE_PATH:
      return LARGE;
    case OPEN_PATH:
      return { ...SMALL, headers: [...SMALL.headers, SESSION_HEADER, randomUUID()] };
    case REPLAY_PATH:
      return REPLAY;
    default:
      return SMALL;
  }
}

function json(body: Buffer): Answer {
  const headers = ['content-type', 'application/json', 'content-length', String(body.length)];
  return { statusCode: 200, headers, body };
}
