/**
 * Reads the bytes of a client with the HTTP server of Node, in its default strict mode. Its parser,
 * llhttp, represents most apps behind a proxy. Bytes are parsed within the call.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Duplex } from 'node:stream';

export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly rawHeaders: readonly string[];
  body: string;
  rawTrailers: readonly string[];
  isComplete: boolean;
}

interface SeenConnection {
  readonly requests: SeenRequest[];
  /** Why it stopped reading. */
  error: string | undefined;
}

/** More than any input contains. */
const MAX_HEAD_BYTES = 1_048_576;

export class NodeServer {
  readonly #server: Server;
  #current: SeenConnection = { requests: [], error: undefined };

  constructor() {
    // Does not listen: connections are passed to it.
    this.#server = createServer({
      insecureHTTPParser: false,
      maxHeaderSize: MAX_HEAD_BYTES,
      requireHostHeader: false,
    });
    this.#server.maxHeadersCount = 0;
    const note = (message: IncomingMessage): void =>
      void this.#current.requests.push(seen(message));
    this.#server.on('request', note).on('checkContinue', note).on('checkExpectation', note);
    this.#server.on('clientError', (error: Error & { code?: string }) => {
      this.#current.error = `${error.code ?? ''} ${error.message}`;
    });
  }

  /** Opens a connection. Only the last opened one may be fed. */
  open(): FedConnection {
    const connection: SeenConnection = { requests: [], error: undefined };
    this.#current = connection;
    const socket = silentSocket();
    this.#server.emit('connection', socket);
    return {
      seen: connection,
      feed: (bytes) => void socket.emit('data', bytes),
      close: () => void socket.destroy(),
    };
  }
}

export interface FedConnection {
  readonly seen: SeenConnection;
  feed(bytes: Buffer): void;
  close(): void;
}

/** Discards what is written to it, and is never read. */
export function silentSocket(): Duplex {
  const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  socket.on('error', () => undefined);
  return socket;
}

/** Reads the body directly from the parser, before a stream buffers it. */
function seen(message: IncomingMessage): SeenRequest {
  const { method = '', url = '', httpVersion, rawHeaders } = message;
  const request: SeenRequest = {
    ...{ method, target: url, version: httpVersion, rawHeaders },
    ...{ body: '', rawTrailers: [], isComplete: false },
  };
  message.push = (chunk: Buffer | null) => {
    if (chunk === null) {
      request.isComplete = true;
      request.rawTrailers = message.rawTrailers;
    } else request.body += chunk.toString('latin1');
    return true;
  };
  return request;
}
