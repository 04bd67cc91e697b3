/** What waits for another, and gives up on one who does nothing. */
import type { Clock } from '../clock.ts';

export interface StallOptions {
  readonly clock: Clock;
  /** The longest wait for the next piece. */
  readonly timeoutMs: number;
  /** Called once that is over: makes whatever is waited for end. */
  readonly onStall: () => void;
}

/** Passes on what comes, and watches that something does. */
export async function* withReadTimeout<Piece>(
  pieces: AsyncIterable<Piece>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Piece> {
  let cancel = clock.after(timeoutMs, onStall);
  try {
    for await (const piece of pieces) {
      cancel();
      yield piece;
      cancel = clock.after(timeoutMs, onStall);
    }
  } finally {
    cancel();
  }
}

/** Passes on what comes, and watches that it is taken. */
export async function* withWriteTimeout<Piece>(
  pieces: AsyncIterable<Piece>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Piece> {
  for await (const piece of pieces) {
    const cancel = clock.after(timeoutMs, onStall);
    try {
      yield piece;
    } finally {
      cancel();
    }
  }
}
