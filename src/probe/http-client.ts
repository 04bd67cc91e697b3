/** The HTTP client of the probes: every request on a connection of its own, so that any Machine may get it. */
import { Agent, type Dispatcher } from 'undici';
import type { Clock } from '../clock.ts';
import { codeOf } from '../errors.ts';
import { shakeHands, WEBSOCKET } from './websocket.ts';

export interface ProbeClient {
  /** Where the app is: scheme, host and port. */
  readonly origin: string;
  /** Never rejects. */
  send(request: ProbeRequest): Promise<Exchange>;
  /** Resolves at the head of the response, whose body stays open; never rejects. */
  open(request: ProbeRequest): Promise<OpenedStream | NoResponse>;
  /** Ends what is in progress, and closes all connections. */
  close(): Promise<void>;
}

interface ProbeClientOptions {
  readonly origin: string;
  /** Sent with each request, such as `authorization`. Names in lower case. */
  readonly headers?: HeaderFields;
  readonly clock: Clock;
  /** For each request, from connecting to the end of the body. */
  readonly timeoutMs?: number;
}

export type HeaderFields = Readonly<Record<string, string>>;

export interface ProbeRequest {
  /** Or {@link WEBSOCKET}: the handshake of a WebSocket, which is closed at once. */
  readonly method: string;
  /** The path, with the query. */
  readonly target: string;
  /** Names in lower case. They win over those of the client. */
  readonly headers?: HeaderFields;
  readonly body?: string;
  /** Whether the rest of the body is not needed; called after each part of it. */
  readonly isEnough?: (body: string) => boolean;
}

/** What came of a request. */
export type Exchange = ProbeResponse | NoResponse;

interface ResponseHead {
  readonly kind: 'response';
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** From the start of connecting to the head of the response, in ms. */
  readonly ms: number;
}

export interface ProbeResponse extends ResponseHead {
  /** Cut off at a megabyte. */
  readonly body: string;
}

export interface NoResponse {
  readonly kind: 'no-response';
  readonly why: 'timeout' | 'no-connection' | 'broken';
  /** Such as `ECONNREFUSED`. */
  readonly code: string;
  readonly ms: number;
}

export interface OpenedStream extends ResponseHead {
  /** What has come so far. */
  readonly text: () => string;
  /** Resolves to whether `isThere` became true of the text: false at the end of the stream or after the timeout. */
  until(isThere: (text: string) => boolean): Promise<boolean>;
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const MAX_BODY_CHARACTERS = 1_000_000;

export function createProbeClient(options: ProbeClientOptions): ProbeClient {
  const { origin, clock, headers = {}, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  // Fly Proxy chooses a Machine for each request of HTTP/1.1, and other proxies for each connection.
  const agent = new Agent({ allowH2: false, connect: { timeout: timeoutMs } });
  const open = async (request: ProbeRequest): Promise<OpenedStream | NoResponse> => {
    const startedAt = clock.monotonicMs();
    const stopping = new AbortController();
    const cancel = clock.after(timeoutMs, () => stopping.abort());
    try {
      const response = await agent.request({
        origin,
        method: request.method,
        path: request.target,
        headers: { 'user-agent': USER_AGENT, ...headers, ...request.headers },
        body: request.body ?? null,
        signal: stopping.signal,
        reset: true,
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      const ms = clock.monotonicMs() - startedAt;
      return readStream({ response, ms, clock, timeoutMs, stop: () => stopping.abort() });
    } catch (error) {
      return noResponse(error, stopping.signal.aborted, clock.monotonicMs() - startedAt);
    } finally {
      cancel();
    }
  };
  const handshakes = createHandshakes({ origin, clock, headers, timeoutMs });
  return {
    origin,
    open,
    send: (request) =>
      request.method === WEBSOCKET ? handshakes.send(request) : send(open, request),
    close: async () => {
      handshakes.abort();
      await agent.destroy();
    },
  };
}

interface Handshakes {
  readonly send: ProbeClient['send'];
  readonly abort: () => void;
}

function createHandshakes({
  origin,
  clock,
  headers,
  timeoutMs,
}: Required<ProbeClientOptions>): Handshakes {
  const closing = new AbortController();
  const shake = async (request: ProbeRequest): Promise<Exchange> => {
    const startedAt = clock.monotonicMs();
    const isLate = new AbortController();
    const cancel = clock.after(timeoutMs, () => isLate.abort());
    const signal = AbortSignal.any([closing.signal, isLate.signal]);
    try {
      const fields = { 'user-agent': USER_AGENT, ...headers, ...request.headers };
      const handshake = await shakeHands(new URL(request.target, origin), fields, signal);
      return { kind: 'response', ...handshake, ms: clock.monotonicMs() - startedAt };
    } catch (error) {
      return noResponse(error, signal.aborted, clock.monotonicMs() - startedAt);
    } finally {
      cancel();
    }
  };
  return { send: shake, abort: () => closing.abort() };
}

const USER_AGENT = 'fly-affinity';

async function send(open: ProbeClient['open'], request: ProbeRequest): Promise<Exchange> {
  const stream = await open(request);
  if (stream.kind === 'no-response') return stream;
  const { isEnough = () => false } = request;
  await stream.until(isEnough);
  stream.close();
  const { kind, status, headers, ms } = stream;
  return { kind, status, headers, ms, body: stream.text() };
}

function noResponse(error: unknown, isTimeout: boolean, ms: number): NoResponse {
  const code = firstCodeOf(error);
  // Destroyed: the client was closed while it waited.
  if (isTimeout || code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'UND_ERR_DESTROYED') {
    return { kind: 'no-response', why: 'timeout', code: 'timeout', ms };
  }
  const isBroken = code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code.startsWith('HPE_');
  return { kind: 'no-response', why: isBroken ? 'broken' : 'no-connection', code, ms };
}

/** Of several addresses that were tried, that of the first. */
function firstCodeOf(error: unknown): string {
  if (error instanceof AggregateError) return firstCodeOf(error.errors[0]);
  return codeOf(error) ?? 'unknown error';
}

interface StreamParts {
  readonly response: Dispatcher.ResponseData;
  readonly ms: number;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly stop: () => void;
}

function readStream({ response, ms, clock, timeoutMs, stop }: StreamParts): OpenedStream {
  const { statusCode: status, headers, body } = response;
  let text = '';
  let hasEnded = false;
  let onChange = (): void => undefined;
  body.setEncoding('utf8');
  body.on('data', (part: string) => {
    text += part;
    if (text.length >= MAX_BODY_CHARACTERS) end();
    onChange();
  });
  const end = (): void => {
    hasEnded = true;
    body.destroy();
    onChange();
  };
  for (const event of ['end', 'error', 'close']) body.once(event, end);
  // Closing a stream that has not ended is an error to it.
  body.on('error', () => undefined);
  return {
    ...{ kind: 'response', status, headers, ms },
    text: () => text,
    until: (isThere) =>
      new Promise((resolve) => {
        const settle = (): void => {
          cancel();
          onChange = () => undefined;
          resolve(isThere(text));
        };
        const cancel = clock.after(timeoutMs, settle);
        onChange = () => {
          if (hasEnded || isThere(text)) settle();
        };
        onChange();
      }),
    close: () => {
      end();
      stop();
    },
  };
}
