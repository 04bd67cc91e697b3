/** The responses of the app and of the floor: the same bytes from both. */
import { randomUUID } from 'node:crypto';

export interface AppResponse {
  readonly statusCode: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

export const SMALL_PATH = '/small';
export const LARGE_PATH = '/large';
export const STREAM_PATH = '/stream';
export const WEBSOCKET_PATH = '/websocket';
/** Opens a session: the response carries its id. */
export const OPEN_PATH = '/open';
/** The floor's response that equals the sidecar's response to a request for another Machine. */
export const REPLAY_PATH = '/replay';

export const SESSION_HEADER = 'mcp-session-id';
export const LARGE_BYTES = 1_048_576;

export const SMALL_BODY = 'a'.repeat(100);

const SMALL = json(Buffer.from(SMALL_BODY));
const LARGE = json(Buffer.alloc(LARGE_BYTES, 'b'));
const REPLAY: AppResponse = {
  statusCode: 307,
  headers: [
    'fly-replay',
    'instance=m2;state=fly-affinity;timeout=3s;fallback=prefer_self',
    'content-length',
    '0',
  ],
  body: Buffer.alloc(0),
};

export const FIRST_EVENT = ': hello\n\n';
export const STREAM_HEADERS = ['content-type', 'text/event-stream', 'cache-control', 'no-cache'];

/** The key and its response in https://www.rfc-editor.org/rfc/rfc6455#section-1.3 */
export const WEBSOCKET_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
export const WEBSOCKET_ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

export function responseTo(path: string): AppResponse {
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

export function json(body: Buffer): AppResponse {
  const headers = ['content-type', 'application/json', 'content-length', String(body.length)];
  return { statusCode: 200, headers, body };
}
