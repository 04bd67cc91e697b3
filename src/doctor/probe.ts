/** Bounded probes: a deadline for what may never answer, and one small HTTP request. */
import { type IncomingMessage, request as httpRequest } from 'node:http';
import type { Clock } from '../clock.ts';

/**
 * What `look` resolves to, or `late` if that takes longer; its signal aborts then. What it goes on
 * with after that is nobody's concern: it must not reject alone.
 */
export async function withTimeout<Result>(
  clock: Clock,
  limitMs: number,
  look: (signal: AbortSignal) => Promise<Result>,
  late: Result,
): Promise<Result> {
  const abort = new AbortController();
  const looking = look(abort.signal);
  // When it is late, its failure comes to nobody.
  looking.catch(() => undefined);
  let cancel = (): void => undefined;
  const limit = new Promise<Result>((resolve) => {
    cancel = clock.after(limitMs, () => resolve(late));
  });
  try {
    return await Promise.race([looking, limit]);
  } finally {
    cancel();
    abort.abort();
  }
}

/** What says why something failed, and nothing else of it: a code of Node.js. */
export function errorCodeOf(error: unknown): string {
  const isCoded = error instanceof Error && 'code' in error && typeof error.code === 'string';
  return isCoded ? String(error.code) : 'no answer';
}

export interface HttpQuestion {
  /** An address or a name, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** JSON; makes it a POST. */
  readonly body?: string;
}

export type HttpAnswer =
  | { readonly kind: 'failed'; readonly code: string }
  | {
      readonly kind: 'answered';
      readonly status: number;
      /** Cut off where it gets long. */
      readonly body: string;
      /** The `Date` field, in ms since the epoch. */
      readonly dateMs: number | undefined;
      /** When it was asked, by our clock. */
      readonly atMs: number;
      readonly roundTripMs: number;
    };

const LIMIT_MS = 3_000;
const MAX_BODY_CHARACTERS = 65_536;

/** Never rejects. */
export function ask(question: HttpQuestion, clock: Clock): Promise<HttpAnswer> {
  const late = { kind: 'failed', code: 'no answer in time' } as const;
  return withTimeout(clock, LIMIT_MS, (signal) => askUntil(question, clock, signal), late);
}

async function askUntil(
  { host, port, path, body }: HttpQuestion,
  clock: Clock,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
  try {
    const method = body === undefined ? 'GET' : 'POST';
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const request = httpRequest({ host, port, path, method, headers, agent: false, signal });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.on('error', reject);
      request.end(body);
    });
    const roundTripMs = clock.monotonicMs() - startedMs;
    const dateMs = Date.parse(response.headers.date ?? '');
    const text = await readSome(response);
    request.destroy();
    const { statusCode = 0 } = response;
    const isDated = !Number.isNaN(dateMs);
    return {
      kind: 'answered',
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

async function readSome(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > MAX_BODY_CHARACTERS) break;
  }
  return text;
}
