/** An upstream through undici's `dispatch` with its raw handler: how the sidecars of peers are reached. */
import { Readable, type Duplex } from 'node:stream';
import { Pool, type buildConnector, type Dispatcher } from 'undici';
import type { RawHeaders } from './headers.ts';
import {
  CONNECT_TIMEOUT_MS,
  UpstreamError,
  type AnswerSink,
  type Upstream,
  type UpstreamErrorCode,
  type UpstreamRequest,
} from './upstream.ts';

export interface UndiciUpstreamOptions {
  /** Such as `http://<id>.vm.<app>.internal:8081`. */
  readonly origin: string;
  readonly connect?: buildConnector.connector;
  /** How long the head of an answer may take in ms; 0 for ever. */
  readonly headTimeoutMs: number;
}

export interface UndiciUpstream extends Upstream {
  /** Takes no more requests; resolves once those under way have ended. */
  retire(): Promise<void>;
}

export function createUndiciUpstream(options: UndiciUpstreamOptions): UndiciUpstream {
  const pool = new Pool(options.origin, {
    pipelining: 1,
    headersTimeout: options.headTimeoutMs,
    // SSE is silent for hours; undici's default would cut it after 300 s.
    bodyTimeout: 0,
    allowH2: false,
    connect: options.connect ?? { timeout: CONNECT_TIMEOUT_MS, allowHalfOpen: true },
  });
  return {
    send: (request, sink) => void pool.dispatch(optionsOf(request), new Relayed(request, sink)),
    retire: () => pool.close(),
    close: () => pool.destroy(),
  };
}

/** `reset: false`: undici would close the connection after each HEAD, and after a GET with a body. */
function optionsOf(request: UpstreamRequest): Dispatcher.DispatchOptions {
  const { method, path, body, upgrade } = request;
  const headers = [...request.headers];
  return { method, path, headers, body, upgrade: upgrade ?? null, reset: false };
}

type Controller = Dispatcher.DispatchController;

class Relayed implements Dispatcher.DispatchHandler {
  readonly #request: UpstreamRequest;
  readonly #sink: AnswerSink;
  #wasSent = false;

  constructor(request: UpstreamRequest, sink: AnswerSink) {
    this.#request = request;
    this.#sink = sink;
  }

  onRequestStart(controller: Controller): void {
    this.#wasSent = true;
    this.#sink.onSent(controller);
  }

  onRequestUpgrade(controller: Controller, statusCode: number, _: unknown, socket: Duplex): void {
    this.#sink.onUpgrade(statusCode, latin1(controller.rawHeaders), socket);
  }

  onResponseStart(controller: Controller, statusCode: number): void {
    const rawHeaders = latin1(controller.rawHeaders);
    if (statusCode < 200) this.#sink.onInformation(statusCode, rawHeaders);
    else this.#sink.onHead(statusCode, rawHeaders);
  }

  onResponseData(_controller: Controller, chunk: Uint8Array): void {
    this.#sink.onData(chunk as Buffer);
  }

  onResponseEnd(controller: Controller): void {
    this.#sink.onEnd(latin1(controller.rawTrailers));
  }

  onResponseError(_controller: Controller | undefined, error: Error): void {
    // undici forgets the body of a request that it could not begin to send: nobody will read it.
    if (this.#request.body instanceof Readable) this.#request.body.destroy();
    this.#sink.onError(upstreamError(error, this.#wasSent));
  }
}

const NO_HEADERS: RawHeaders = [];

function latin1(raw: Controller['rawHeaders']): string[] {
  return Array.isArray(raw) ? raw.map((bytes) => bytes.toString('latin1')) : [...NO_HEADERS];
}

const CODES: Readonly<Record<string, UpstreamErrorCode>> = {
  UND_ERR_SOCKET: 'connection-lost',
  ECONNRESET: 'connection-lost',
  EPIPE: 'connection-lost',
  UND_ERR_HEADERS_TIMEOUT: 'head-timeout',
  UND_ERR_CONNECT_TIMEOUT: 'connect-timeout',
  'connect-timeout': 'connect-timeout',
  UND_ERR_INVALID_ARG: 'malformed-request',
  UND_ERR_NOT_SUPPORTED: 'malformed-request',
  UND_ERR_REQ_CONTENT_LENGTH_MISMATCH: 'request-body-failed',
  UND_ERR_DESTROYED: 'closed',
};

function upstreamError(error: Error, wasSent: boolean): UpstreamError {
  const code = 'code' in error ? CODES[String(error.code)] : undefined;
  // undici says of a broken connection how many bytes it had read before: an earlier answer's.
  const { socket } = error as { socket?: { bytesRead?: number } };
  return new UpstreamError(
    code ?? (wasSent ? 'malformed-answer' : 'connect-failed'),
    error.message,
    {
      wasNotSent: !wasSent,
      wasReused: (socket?.bytesRead ?? 0) > 0,
      cause: error,
    },
  );
}
