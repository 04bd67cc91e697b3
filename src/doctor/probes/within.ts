/** Bounds a look at something that may never answer. */
import type { Clock } from '../../clock.ts';

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
