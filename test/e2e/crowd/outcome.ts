/** The possible results of a client's call, independent of its protocol. */
import { z } from 'zod';
import { Counted } from '../support/mcp-client.ts';

export type Outcome =
  /** A response of the app; `session` as the app knows it, without a hint. */
  | { readonly kind: 'answered'; readonly session: string; readonly counted: Counted }
  /** The session does not exist, as the protocol's own error. */
  | { readonly kind: 'gone'; readonly session: string }
  /** 503 with `Retry-After`. */
  | { readonly kind: 'later' }
  /** The connection was lost, or the edge responded itself. */
  | { readonly kind: 'cut'; readonly how: string }
  /** A result that no client should ever receive. */
  | { readonly kind: 'wrong'; readonly what: string };

export type OutcomeKind = Outcome['kind'];

export interface Client {
  /** Opens a session to replace the previous one. `gone` if it was lost before it could be used. */
  open(): Promise<Outcome>;
  /** One call in the session. */
  call(): Promise<Outcome>;
  leave(): void;
}

/** A response over HTTP, read whole. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

/** A call that takes longer hangs, in ms: longer than any fault lasts, on a busy computer too. */
const HANGING_MS = 60_000;

/** The response, or the result that replaces it. */
export async function sendRequest(
  address: string,
  init: RequestInit,
): Promise<HttpResponse | Outcome> {
  try {
    const response = await fetch(address, { ...init, signal: AbortSignal.timeout(HANGING_MS) });
    return { status: response.status, headers: response.headers, body: await response.text() };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error.name === 'TimeoutError') return { kind: 'wrong', what: `${address} hangs` };
    return { kind: 'cut', how: error.message };
  }
}

export function isOutcome(requested: HttpResponse | Outcome): requested is Outcome {
  return 'kind' in requested;
}

/** The meaning of a response other than 200, unless it is the protocol's own "gone". */
export function outcomeOf({ status, headers, body }: HttpResponse): Outcome {
  const edgeError = headers.get('fly-error');
  if (edgeError !== null) return { kind: 'cut', how: edgeError };
  if (status === 503 && headers.has('retry-after')) return { kind: 'later' };
  // The app died with the request, or its Machine is frozen and may have it.
  if (status === 502 || status === 504) return { kind: 'cut', how: String(status) };
  return { kind: 'wrong', what: `${status} ${body.slice(0, 200)}` };
}

/** `text` is JSON of a count, or the response was incomplete. */
export function countedIn(session: string, text: string | undefined): Outcome {
  const parsed = Counted.safeParse(jsonOf(text ?? ''));
  if (!parsed.success) return { kind: 'wrong', what: `not counted: ${text ?? 'nothing'}` };
  return { kind: 'answered', session, counted: parsed.data };
}

/** Undefined for invalid JSON. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The caller checks it against the expectation.
    return undefined;
  }
}

export function withoutHint(id: string): string {
  return id.split('~', 1)[0] ?? '';
}

export const Problem = z.object({ error: z.string() }).or(z.object({ title: z.string() }));
