/** What a client of the crowd gets to hear, whichever protocol it speaks. */
import { z } from 'zod';
import { Counted } from '../support/mcp-client.ts';

export type Outcome =
  /** An answer of the app; `session` as the app knows it, without a hint. */
  | { readonly kind: 'answered'; readonly session: string; readonly counted: Counted }
  /** The session does not exist, in the protocol's own words. */
  | { readonly kind: 'gone'; readonly session: string }
  /** 503 with `Retry-After`. */
  | { readonly kind: 'later' }
  /** The connection was lost, or the edge answered by itself. */
  | { readonly kind: 'cut'; readonly how: string }
  /** Nothing that a client should ever get to hear. */
  | { readonly kind: 'wrong'; readonly what: string };

export type OutcomeKind = Outcome['kind'];

export interface Client {
  /** Opens a session, in place of the one before. `gone` if it was lost before it could be used. */
  open(): Promise<Outcome>;
  /** One call in the session. */
  call(): Promise<Outcome>;
  leave(): void;
}

/** An answer over HTTP, read whole. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

/** A call that takes longer hangs, in ms: longer than any fault lasts, on a busy computer too. */
const HANGING_MS = 60_000;

/** The answer, or what there is instead of one. */
export async function ask(address: string, init: RequestInit): Promise<Answer | Outcome> {
  try {
    const response = await fetch(address, { ...init, signal: AbortSignal.timeout(HANGING_MS) });
    return { status: response.status, headers: response.headers, body: await response.text() };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error.name === 'TimeoutError') return { kind: 'wrong', what: `${address} hangs` };
    return { kind: 'cut', how: error.message };
  }
}

export function isOutcome(asked: Answer | Outcome): asked is Outcome {
  return 'kind' in asked;
}

/** What an answer other than 200 means, unless it is the protocol's own way to say "gone". */
export function outcomeOf({ status, headers, body }: Answer): Outcome {
  const edgeError = headers.get('fly-error');
  if (edgeError !== null) return { kind: 'cut', how: edgeError };
  if (status === 503 && headers.has('retry-after')) return { kind: 'later' };
  // The app died with the request, or its Machine stands still and may have it.
  if (status === 502 || status === 504) return { kind: 'cut', how: String(status) };
  return { kind: 'wrong', what: `${status} ${body.slice(0, 200)}` };
}

/** `text` is JSON of what was counted, or the answer was not whole. */
export function countedIn(session: string, text: string | undefined): Outcome {
  const parsed = Counted.safeParse(jsonOf(text ?? ''));
  if (!parsed.success) return { kind: 'wrong', what: `not counted: ${text ?? 'nothing'}` };
  return { kind: 'answered', session, counted: parsed.data };
}

/** Undefined for what is no JSON. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Whoever asks says what was expected.
    return undefined;
  }
}

export function withoutHint(id: string): string {
  return id.split('~', 1)[0] ?? '';
}

export const Problem = z.object({ error: z.string() }).or(z.object({ title: z.string() }));
