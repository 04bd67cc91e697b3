/** Bounded probes: a deadline for any operation, and one small HTTP request. */
import { type IncomingMessage, request as httpRequest } from 'node:http';
import type { Clock } from '../clock.ts';
import { codeOf } from '../errors.ts';

/**
 * Resolves to the result of `probe`, or to `onTimeout` after `limitMs`. The signal aborts in both
 * cases; a rejection of `probe` after the timeout is ignored.
 */
export async function withTimeout<Result>(
  clock: Clock,
  limitMs: number,
  probe: (signal: AbortSignal) => Promise<Result>,
  onTimeout: Result,
): Promise<Result> {
  const abort = new AbortController();
  const probing = probe(abort.signal);
  // After the timeout no one awaits this promise: its rejection must not be unhandled.
  probing.catch(() => undefined);
  let cancel = (): void => undefined;
  const timeout = new Promise<Result>((resolve) => {
    cancel = clock.after(limitMs, () => resolve(onTimeout));
  });
  try {
    return await Promise.race([probing, timeout]);
  } finally {
    cancel();
    abort.abort();
  }
}

/** The Node.js code of an error. Its message may hold a secret, so findings never show it. */
export function errorCodeOf(error: unknown): string {
  return codeOf(error) ?? 'unknown error';
}

interface ProbeRequest {
  /** An address or a name, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** JSON; makes the request a POST. */
  readonly body?: string;
  /** A bearer token. */
  readonly token?: string | undefined;
}

export type ProbeResponse =
  | { readonly kind: 'failed'; readonly code: string }
  | {
      readonly kind: 'received';
      readonly status: number;
      /** Truncated when it is long. */
      readonly body: string;
      /** The `Date` field, in ms since the epoch. */
      readonly dateMs: number | undefined;
      /** When the request was sent, by our clock. */
      readonly atMs: number;
      readonly roundTripMs: number;
    };

const REQUEST_TIMEOUT_MS = 3_000;
const MAX_BODY_CHARACTERS = 65_536;

/** Never rejects. */
export function sendProbe(target: ProbeRequest, clock: Clock): Promise<ProbeResponse> {
  const timedOut = { kind: 'failed', code: 'timed out' } as const;
  const send = (signal: AbortSignal): Promise<ProbeResponse> => sendRequest(target, clock, signal);
  return withTimeout(clock, REQUEST_TIMEOUT_MS, send, timedOut);
}

async function sendRequest(
  { host, port, path, body, token }: ProbeRequest,
  clock: Clock,
  signal: AbortSignal,
): Promise<ProbeResponse> {
  const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
  try {
    const method = body === undefined ? 'GET' : 'POST';
    const headers = {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    };
    const request = httpRequest({ host, port, path, method, headers, agent: false, signal });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.on('error', reject);
      request.end(body);
    });
    const roundTripMs = clock.monotonicMs() - startedMs;
    const dateMs = Date.parse(response.headers.date ?? '');
    const text = await readTruncated(response);
    request.destroy();
    const { statusCode = 0 } = response;
    const isDated = !Number.isNaN(dateMs);
    return {
      kind: 'received',
      status: statusCode,
      body: text,
      dateMs: isDated ? dateMs : undefined,
      atMs,
      roundTripMs,
    };
  } catch (error) {
    return { kind: 'failed', code: errorCodeOf(error) };
  }
}

async function readTruncated(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > MAX_BODY_CHARACTERS) break;
  }
  return text;
}
