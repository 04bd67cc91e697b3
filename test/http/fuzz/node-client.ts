/**
 * Reads the bytes of an app with the HTTP client of Node. Its parser, llhttp, represents the clients of
 * the proxy. Clients are opened one turn ahead, and bytes are parsed within the call.
 */
import { request, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { silentSocket } from './node-server.ts';

export interface SeenResponse {
  /** Status codes of interim responses. */
  readonly interim: number[];
  statusCode: number;
  version: string;
  rawHeaders: readonly string[];
  body: string;
  rawTrailers: readonly string[];
  isComplete: boolean;
  /** Bytes after a 101. */
  switchedRest: string | undefined;
  error: string | undefined;
}

export class NodeClient {
  readonly seen: SeenResponse = {
    ...{ interim: [], statusCode: 0, version: '', rawHeaders: [], body: '', rawTrailers: [] },
    ...{ isComplete: false, switchedRest: undefined, error: undefined },
  };
  readonly #socket: Duplex;
  readonly #request: ClientRequest;

  /** Can be fed in the next turn of the event loop. */
  constructor(method: string) {
    this.#socket = silentSocket();
    this.#request = request({
      ...{ method, insecureHTTPParser: false, maxHeaderSize: MAX_HEAD_BYTES },
      headers: { Connection: 'Upgrade', Upgrade: 'foo' },
      createConnection: () => this.#socket,
    });
    this.#request.maxHeadersCount = 0;
    this.#request
      .on('information', ({ statusCode }) => void this.seen.interim.push(statusCode))
      .on('response', (message) => this.#see(message))
      .on('upgrade', (message, _socket, rest: Buffer) => {
        this.#see(message);
        this.seen.switchedRest = rest.toString('latin1');
      })
      .on('error', (error: Error & { code?: string }) => {
        this.seen.error ??= `${error.code ?? ''} ${error.message}`;
      });
    this.#request.end();
  }

  feed(bytes: Buffer): void {
    this.#socket.emit('data', bytes);
  }

  /** The app has ended the connection. */
  end(): void {
    this.#socket.emit('end');
  }

  close(): void {
    this.#request.destroy();
    this.#socket.destroy();
  }

  /** Reads the body directly from the parser, before a stream buffers it. */
  #see(message: IncomingMessage): void {
    const { seen } = this;
    const { statusCode = 0, httpVersion, rawHeaders } = message;
    Object.assign(seen, { statusCode, version: httpVersion, rawHeaders });
    message.push = (chunk: Buffer | null) => {
      if (chunk === null) {
        seen.isComplete = message.complete;
        seen.rawTrailers = message.rawTrailers;
      } else seen.body += chunk.toString('latin1');
      return true;
    };
  }
}

/** More than any input contains. */
const MAX_HEAD_BYTES = 1_048_576;
